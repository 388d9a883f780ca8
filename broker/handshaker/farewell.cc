// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/farewell.h"

#include <sys/socket.h>

#include <array>
#include <asio/co_spawn.hpp>
#include <asio/this_coro.hpp>
#include <cerrno>
#include <exception>

#include "broker/handshaker/deadline.h"
#include "broker/support/coroutines.h"

namespace tlsbroker {
namespace {

asio::awaitable<void> FarewellOf(Shared& shared, AsyncFd socket, Admission::Place /*place*/) {
  const ActiveConnection active(shared);
  co_await Farewell(socket);
}

}  // namespace

asio::awaitable<void> Farewell(AsyncFd& socket) {
  const auto executor = co_await asio::this_coro::executor;
  shutdown(socket.get(), SHUT_WR);
  const Deadline deadline(executor, kFarewellTime, socket);
  static std::array<char, 64 * 1024> nowhere;
  for (size_t dropped = 0; dropped < kFarewellBytes && !socket.cancelled();) {
    const ssize_t n = recv(socket.get(), nowhere.data(), nowhere.size(), MSG_DONTWAIT);
    if (n > 0) {
      dropped += static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      const bool readable = co_await socket.WaitReadable();
      if (!readable) co_return;
    } else if (n == 0 || errno != EINTR) {
      co_return;
    }
  }
}

void StartFarewell(Shared& shared, UniqueFd socket, Admission::Place place) {
  try {
    AsyncFd watched(shared.io.get_executor(), std::move(socket));
    asio::co_spawn(shared.io, FarewellOf(shared, std::move(watched), std::move(place)),
                   EndsConnection());
  } catch (const std::exception&) {
    // Without memory there is no farewell: the socket is closed.
  }
}

}  // namespace tlsbroker
