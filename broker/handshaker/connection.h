// SPDX-License-Identifier: Apache-2.0
// The life of a connection that a client made, from accept(2) to its hand-off. Its stages are, in
// this order: admission, tcp_connection, handshake, delivery. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_

#include "broker/handshaker/listener.h"
#include "broker/handshaker/service.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

// Takes a connection from accept(2), with the address that accept(2) gave. A connection beyond the
// limits is closed before any cryptography is done for it; any other goes on in a coroutine of its
// own, which counts and logs what goes wrong. `listener` has to outlive the connection.
void StartConnection(Shared& shared, const Listener& listener, UniqueFd socket,
                     const handoff::Endpoint& peer);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
