// SPDX-License-Identifier: Apache-2.0
#include "client-lib/stream_io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>

#include "protocol/channel.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

// The broker shuts its sending direction down for an authenticated end and closes for a cut; only
// the latter shuts both directions, which is what af_unix reports as POLLHUP (unix_poll).
bool PeerClosed(int socket) {
  pollfd p{socket, 0, 0};
  return poll(&p, 1, 0) != 0;
}

// Waits as recv(2) would, but in poll(2): a reader that sleeps in recv(2) is also woken, for
// nothing, when the broker takes what was written before (unix_write_space), that is once for each
// answer. False, with EAGAIN: O_NONBLOCK is set, or SO_RCVTIMEO is over.
bool WaitReadable(int socket) {
  timeval limit{};
  socklen_t size = sizeof(limit);
  if ((fcntl(socket, F_GETFL) & O_NONBLOCK) == 0 &&
      getsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, &size) == 0) {
    const bool forever = limit.tv_sec == 0 && limit.tv_usec == 0;
    const int64_t ms = int64_t{limit.tv_sec} * 1000 + (limit.tv_usec + 999) / 1000;
    pollfd p{socket, POLLIN, 0};
    const int n = poll(&p, 1, forever ? -1 : static_cast<int>(std::min<int64_t>(ms, INT_MAX)));
    if (n > 0 || (n < 0 && errno == EINTR)) return true;
  }
  errno = EAGAIN;
  return false;
}

}  // namespace

ssize_t ReadStream(int socket, void* buffer, size_t size, int flags) {
  const bool dont_wait = (flags & MSG_DONTWAIT) != 0;
  ssize_t n;
  do {
    n = recv(socket, buffer, size, MSG_DONTWAIT);
  } while (n < 0 && (errno == EINTR || (errno == EAGAIN && !dont_wait && WaitReadable(socket))));
  if (n > 0) return n;
  if (n == 0) return PeerClosed(socket) ? TLSBROKER_E_TRUNCATED : 0;
  return errno == ECONNRESET ? TLSBROKER_E_TRUNCATED : -errno;
}

ssize_t SpliceStream(int socket, int pipe, size_t size, unsigned flags) {
  ssize_t n;
  do {
    n = splice(socket, nullptr, pipe, nullptr, size, flags);
  } while (n < 0 && errno == EINTR);
  if (n > 0) return n;
  if (n == 0) return PeerClosed(socket) ? TLSBROKER_E_TRUNCATED : 0;
  return errno == ECONNRESET ? TLSBROKER_E_TRUNCATED : -errno;
}

int SendStreamEnd(int socket, bool dont_wait) {
  switch (channel::SendEnd(socket, dont_wait)) {
    case channel::Result::kOk:
      return 0;
    case channel::Result::kWouldBlock:
      return -EAGAIN;
    case channel::Result::kClosed:
      return -EPIPE;
    case channel::Result::kMalformed:
    case channel::Result::kError:
      break;
  }
  return -errno;
}

}  // namespace tlsbroker::client
