// SPDX-License-Identifier: Apache-2.0
// Connections that workers did not get from the queue: a socket of their own that becomes TLS, and
// a connection to an upstream (PROTOCOL.md, "Wrap and dial"). Runs in the handshaker; the worker is
// a stranger, and so is whoever is at the other end.

#ifndef TLSBROKER_BROKER_HANDSHAKER_OPENING_H_
#define TLSBROKER_BROKER_HANDSHAKER_OPENING_H_

#include "broker/handshaker/service.h"
#include "protocol/request.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

// How many handshakes of this kind may be under way at once, for each service in each handshaker. A
// request beyond that is answered with "busy".
inline constexpr uint32_t kMaxOpening = 64;

// Nothing but a connected TCP socket can be wrapped.
bool CanBeWrapped(int socket);

// These continue in a coroutine, which sends the result over `answer`.
void StartWrap(Shared& shared, Service& service, request::Wrap wrap, UniqueFd answer,
               UniqueFd socket);
void StartDial(Shared& shared, Service& service, const request::Dial& dial, UniqueFd answer);

// Answers a request for which no work was begun.
void RefuseToOpen(Shared& shared, const Service& service, UniqueFd answer, request::Result result);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_OPENING_H_
