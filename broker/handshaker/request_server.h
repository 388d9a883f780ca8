// SPDX-License-Identifier: Apache-2.0
// Answers the requests of a service's workers. They come over one socket that all workers of the
// service write and all handshakers read; each brings the socket that its answer goes to. Runs in
// the handshaker; the worker is a stranger, and so is whatever it sends along: closing it may take
// as long as the worker likes (PROTOCOL.md section 7).

#ifndef TLSBROKER_BROKER_HANDSHAKER_REQUEST_SERVER_H_
#define TLSBROKER_BROKER_HANDSHAKER_REQUEST_SERVER_H_

#include <asio/awaitable.hpp>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// Requests of one service that are answered in a second, by each handshaker; more have to wait.
inline constexpr int kMaxRequestsPerSecond = 1000;

// Answers requests until `requests` is cancelled or at its end.
asio::awaitable<void> AnswerRequests(Shared& shared, Service& service, AsyncFd& requests);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_REQUEST_SERVER_H_
