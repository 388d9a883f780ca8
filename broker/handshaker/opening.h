// Connections that workers did not get from the queue: a socket of their own that becomes TLS, and
// a connection to an upstream (PROTOCOL.md, "Wrap and dial"). Runs in the handshaker; the worker is
// a stranger, and so is whoever is at the other end.

#ifndef TLSBROKER_BROKER_HANDSHAKER_OPENING_H_
#define TLSBROKER_BROKER_HANDSHAKER_OPENING_H_

#include "broker/handshaker/service.h"
#include "protocol/request.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

// Handshakes of this kind under way at once, of each service in each handshaker: one more is busy.
inline constexpr uint32_t kMaxOpening = 64;

// Nothing but a connected TCP socket can be wrapped.
bool CanBeWrapped(int socket);

// These go on by themselves and answer over `answer` in the end.
void StartWrap(Shared& shared, Service& service, request::Wrap wrap, UniqueFd answer,
               UniqueFd socket);
void StartDial(Shared& shared, Service& service, const request::Dial& dial, UniqueFd answer);

// The answer to a request that is not even begun.
void RefuseToOpen(Shared& shared, const Service& service, UniqueFd answer, request::Result result);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_OPENING_H_
