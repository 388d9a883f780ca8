// SPDX-License-Identifier: Apache-2.0
// How a connection ends after our last alert. close(2) with unread data is a reset, which makes the
// peer's kernel forget what it has received and not yet given to its program: the alert (RFC 9112
// section 9.6 has the same for HTTP). So we send FIN, and read and drop what still comes. Runs in
// the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_FAREWELL_H_
#define TLSBROKER_BROKER_HANDSHAKER_FAREWELL_H_

#include <asio/awaitable.hpp>
#include <chrono>
#include <cstddef>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// A peer that goes on for longer, or sends more, is reset.
inline constexpr std::chrono::seconds kFarewellTime{2};
inline constexpr size_t kFarewellBytes = 1 << 20;

// Returns when the peer has closed, or at one of the limits. Closes nothing.
asio::awaitable<void> Farewell(AsyncFd& socket);

// The same for a connection that nobody waits for; closes it. It keeps its place as long.
void StartFarewell(Shared& shared, UniqueFd socket, Admission::Place place);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_FAREWELL_H_
