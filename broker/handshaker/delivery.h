// SPDX-License-Identifier: Apache-2.0
// What comes after the handshake: the keys go into the kernel and the socket to a worker, or, where
// that cannot be, a relay stands between the two. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_DELIVERY_H_
#define TLSBROKER_BROKER_HANDSHAKER_DELIVERY_H_

#include <asio/awaitable.hpp>
#include <chrono>

#include "broker/handshaker/handshake.h"
#include "broker/handshaker/queue_sender.h"
#include "broker/handshaker/service.h"
#include "broker/handshaker/tcp_connection.h"

namespace tlsbroker {

enum class Delivery {
  kOver,         // `recipient` has got it, or nobody was there to get it
  kNotPossible,  // kernel TLS is required and not there, or a limit is reached; the client is
                 // closed
  kInDoubt,      // the kernel has some keys, and it is not certain which: closed without a word
};

// What goes wrong has been counted, and logged or left for the next line of Server::SayRefused().
// `started` is when the handshake began.
asio::awaitable<Delivery> Deliver(Shared& shared, Service& service, TcpConnection connection,
                                  Handshaken handshake, Recipient& recipient,
                                  std::chrono::steady_clock::time_point started);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_DELIVERY_H_
