// SPDX-License-Identifier: Apache-2.0
// The two ways to end a connection: a clean close in bounded time, or an abort at once, which the
// peer sees as a cut. Part of libtlsbroker; runs in workers, does not trust the peer to end its
// direction.

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

// Takes what is there, up to one record that is no data. False if nothing more comes that has to be
// read: the peer has ended, or its records cannot be read any more.
bool Discard(int socket) {
  constexpr uint8_t kAlert = 21;
  std::array<uint8_t, 16 * 1024> discarded;
  iovec iov{discarded.data(), discarded.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint8_t))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(socket, &header, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) {
    // On Linux 6.1 poll(2) shows a socket with a part of a record as readable.
    poll(nullptr, 0, 5);
    return true;
  }
  if (n < 0) return errno == EINTR;
  const cmsghdr* type = CMSG_FIRSTHDR(&header);
  return type != nullptr ? *CMSG_DATA(type) != kAlert : n > 0;
}

// TCP answers a close with unread data by a reset, and a reset makes the peer's kernel throw away
// what it has not delivered yet. So all that the peer still sends is read first, whatever it is. No
// call waits but poll(2): a recv(2) would wait anew for each record that is no data.
void DiscardUntil(tlsbroker_conn& conn, const Deadline& deadline) {
  while (deadline.Wait(conn.fd.get(), POLLIN) && Discard(conn.fd.get())) {
  }
}

// We have refused what the peer sent, and told it so (Refuse in record_io.cc, Fail in io.cc). The
// kernel's TLS reads nothing any more, so what the peer sends cannot be discarded; closing before
// the peer does would send a reset, which may overtake the alert.
void WaitForPeer(const tlsbroker_conn& conn, const Deadline& deadline) {
  const int result = conn.read_result;
  if (conn.direct() && (result == TLSBROKER_E_PROTOCOL || result == TLSBROKER_E_REKEY)) {
    (void)deadline.Wait(conn.fd.get(), POLLRDHUP);
  }
}

}  // namespace

int tlsbroker_close(tlsbroker_conn* conn, int timeout_ms) {
  if (conn == nullptr) return 0;
  const std::unique_ptr<tlsbroker_conn> freed(conn);
  const Deadline deadline(timeout_ms < 0 ? TLSBROKER_CLOSE_TIMEOUT_MS : timeout_ms);
  if (conn->cut()) {
    WaitForPeer(*conn, deadline);
    return conn->read_result;
  }
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
