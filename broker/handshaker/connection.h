// The life of a connection, from top to bottom. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_

#include <asio/awaitable.hpp>
#include <memory>

#include "broker/handshaker/handshake.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// Handshake, kernel TLS, hand-off; without kernel TLS a relay, which lives on when this has ended.
// Everything that goes wrong before ends here, counted and logged.
asio::awaitable<void> ServeConnection(Shared& shared, Service& service, Accepted connection);

// Socket options that have to be set before the first byte.
void Prepare(const Shared& shared, const Service& service, Accepted& connection);

enum class Delivery { kDone, kNotPossible, kInDoubt };

// What comes after the handshake: kernel TLS or, if that may be, a relay. kNotPossible: `recipient`
// got nothing, and has to do without; counted and logged.
asio::awaitable<Delivery> Deliver(Shared& shared, Service& service, Accepted connection,
                                  Handshaken handshake, Recipient& recipient,
                                  std::chrono::steady_clock::time_point started);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONNECTION_H_
