// accept(2) for one listener: who may come in, and when not to ask. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
#define TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_

#include <asio/awaitable.hpp>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// Accepts until `listener` is cancelled, and starts a coroutine for each connection. Several
// processes do this on the same socket.
asio::awaitable<void> AcceptConnections(Shared& shared, Service& service, AsyncFd& listener);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
