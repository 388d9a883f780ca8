#include "client-lib/stream_io.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

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

}  // namespace

ssize_t ReadStream(int socket, void* buffer, size_t size, int flags) {
  ssize_t n;
  do {
    n = recv(socket, buffer, size, flags);
  } while (n < 0 && errno == EINTR);
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
