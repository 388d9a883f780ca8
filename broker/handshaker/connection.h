// The life of a connection, from top to bottom. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_

#include <asio/awaitable.hpp>
#include <memory>

#include "broker/handshaker/handshake.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// Handshake, kernel TLS, hand-off; without kernel TLS relays until the connection ends. Everything
// that goes wrong ends here, counted and logged.
asio::awaitable<void> ServeConnection(Shared& shared, Service& service, Accepted connection);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
