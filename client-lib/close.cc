// The two ways to be done with a connection: cleanly, in bounded time, or at once and visibly cut.
// Part of libtlsbroker; runs in workers, does not trust the peer to end.

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>

#include "client-lib/connection.h"
#include "tlsbroker/tlsbroker.h"

namespace {

class Deadline {
 public:
  explicit Deadline(int timeout_ms) : at_(Clock::now() + std::chrono::milliseconds(timeout_ms)) {}

  bool Passed() const { return Clock::now() >= at_; }

  // False when the time is up before one of the events is there.
  bool Wait(int fd, short events) const {
    while (!Passed()) {
      pollfd p{fd, events, 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now());
      const int n = poll(&p, 1, static_cast<int>(left.count()));
      if (n > 0) return true;
      if (n < 0 && errno != EINTR) return false;
    }
    return false;
  }

  // Makes a recv(2) on the socket, which nobody uses any more, wait until then and not longer.
  bool LimitReceiving(int socket) const {
    const auto left = std::chrono::ceil<std::chrono::microseconds>(at_ - Clock::now()).count();
    const timeval time = {.tv_sec = left / 1'000'000, .tv_usec = left % 1'000'000};
    const int flags = fcntl(socket, F_GETFL);
    return left > 0 && flags >= 0 && fcntl(socket, F_SETFL, flags & ~O_NONBLOCK) == 0 &&
           setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) == 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point at_;
};

int EndBy(tlsbroker_conn& conn, const Deadline& deadline) {
  for (;;) {
    const int result = tlsbroker::client::EndWrite(conn, /*dont_wait=*/true);
    if (result != -EAGAIN) return result;
    if (!deadline.Wait(conn.fd.get(), POLLOUT)) return -ETIMEDOUT;
  }
}

// TCP answers a close with unread data by a reset, and a reset makes the peer's kernel throw away
// what it has not delivered yet. So all that the peer still sends is read first.
//
// The waiting is recv's: poll(2) shows a part of a record as readable on Linux 6.1, and would not
// wait for the rest.
void DiscardUntil(tlsbroker_conn& conn, const Deadline& deadline) {
  std::array<uint8_t, 16 * 1024> discarded;
  ssize_t n;
  do {
    n = tlsbroker::client::Read(conn, discarded.data(), discarded.size(), MSG_DONTWAIT);
    if (n == -EAGAIN && !deadline.Passed()) {
      if (!deadline.LimitReceiving(conn.fd.get())) return;
      n = tlsbroker::client::Read(conn, discarded.data(), discarded.size(), 0);
    }
    // recv's time is counted in ticks and may be up a little early.
  } while ((n > 0 || n == -EAGAIN) && !deadline.Passed());
}

}  // namespace

int tlsbroker_close(tlsbroker_conn* conn, int timeout_ms) {
  if (conn == nullptr) return 0;
  const std::unique_ptr<tlsbroker_conn> freed(conn);
  if (conn->cut()) return conn->read_result;
  const Deadline deadline(timeout_ms < 0 ? TLSBROKER_CLOSE_TIMEOUT_MS : timeout_ms);
  if (const int error = EndBy(*conn, deadline); error < 0) return error;
  if (conn->direct()) {
    shutdown(conn->fd.get(), SHUT_WR);
    DiscardUntil(*conn, deadline);
  }
  return 0;
}

void tlsbroker_abort(tlsbroker_conn* conn) {
  if (conn == nullptr) return;
  const std::unique_ptr<tlsbroker_conn> freed(conn);
  if (conn->direct() && !conn->cut() && !conn->write_ended) {
    tlsbroker::client::SendFatalAlert(conn->fd.get(), tlsbroker::client::kInternalError);
  }
}

void tlsbroker_forget(tlsbroker_conn* conn) { delete conn; }
