// SPDX-License-Identifier: Apache-2.0
#include "client-lib/ask.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <vector>

namespace tlsbroker::client {
namespace {

using Clock = std::chrono::steady_clock;

bool WaitFor(int socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) {
      errno = ETIMEDOUT;
      return false;
    }
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(left));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace

int CheckFreeDescriptor(int any_fd) {
  const UniqueFd spare(fcntl(any_fd, F_DUPFD_CLOEXEC, 0));
  return spare.valid() ? 0 : -errno;
}

std::optional<channel::Message> Ask(int requests, std::span<const uint8_t> message,
                                    std::span<const int> fds, const Answered& answered) {
  const auto until = Clock::now() + answered.timeout;
  auto [ours, theirs] = channel::MakePair();
  if (!ours) return std::nullopt;
  std::vector<int> all = {theirs.get()};
  all.insert(all.end(), fds.begin(), fds.end());
  for (;;) {
    const auto sent = channel::Send(requests, message, all, /*dont_wait=*/true);
    if (sent == channel::Result::kOk) break;
    if (sent != channel::Result::kWouldBlock || !WaitFor(requests, POLLOUT, until)) {
      return std::nullopt;
    }
  }
  theirs.Reset();  // so that we see the end of file if the handshaker, which has a copy, dies
  channel::Message received;
  if (!WaitFor(ours.get(), POLLIN, until)) return std::nullopt;
  const auto result = channel::Receive(ours.get(), answered.max_size, answered.max_fds, received,
                                       /*dont_wait=*/true);
  if (result == channel::Result::kOk) return received;
  errno = ECONNRESET;
  return std::nullopt;
}

}  // namespace tlsbroker::client
