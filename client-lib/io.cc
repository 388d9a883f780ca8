// SPDX-License-Identifier: Apache-2.0
// Reading, writing and ending one connection, whatever its mode. Part of libtlsbroker; runs in
// workers, trusts the broker and not the peer.

#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <cerrno>
#include <mutex>

#include "client-lib/connection.h"
#include "client-lib/stream_io.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

// Whether each further read returns the same: so it is after an end or a failure of the stream, but
// not after an error of one call (-EAGAIN, -ENOMEM).
bool IsFinal(ssize_t result) { return result == 0 || result < -4095; }

bool IsNonblocking(const tlsbroker_conn& conn) {
  return (fcntl(conn.fd.get(), F_GETFL) & O_NONBLOCK) != 0;
}

template <typename Call>
ssize_t Restarting(Call call) {
  ssize_t n;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

// splice(2) does not look at O_NONBLOCK of a socket.
unsigned SpliceFlags(const tlsbroker_conn& conn) {
  return SPLICE_F_MOVE | (IsNonblocking(conn) ? SPLICE_F_NONBLOCK : 0U);
}

int Fail(tlsbroker_conn& conn, uint8_t alert, int result) {
  SendFatalAlert(conn.fd.get(), alert);
  shutdown(conn.fd.get(), SHUT_WR);
  conn.read_result = result;
  return result;
}

// Changes our own keys, with `writing` held: 0, -EAGAIN when there is no room for our KeyUpdate, or
// a final result.
int UpdateOwnKeys(tlsbroker_conn& conn, bool dont_wait) {
  for (;;) {
    const auto status = conn.rekeyer.Ask(request::Direction::kSend, conn.fd.get());
    if (status == request::Status::kDone) {
      conn.rekeyer.StartCounting();
      conn.rekeyer.owed = false;
      return 0;
    }
    if (status != request::Status::kBusy) return Fail(conn, kInternalError, TLSBROKER_E_REKEY);
    if (dont_wait) return -EAGAIN;
    pollfd entry{conn.fd.get(), POLLOUT, 0};
    (void)poll(&entry, 1, -1);
  }
}

// Follows the peer's KeyUpdate: 0 when reading can go on.
int FollowPeer(tlsbroker_conn& conn, bool wants_ours) {
  if (!conn.rekeyer.Admit()) return Fail(conn, kUnexpectedMessage, TLSBROKER_E_PROTOCOL);
  const auto status = conn.rekeyer.Ask(request::Direction::kReceive, conn.fd.get());
  if (status != request::Status::kDone) return Fail(conn, kInternalError, TLSBROKER_E_REKEY);
  if (!wants_ours) return 0;
  conn.rekeyer.owed = true;
  // Our KeyUpdate is sent now if no thread writes, else before the next write.
  const std::unique_lock lock(conn.writing, std::try_to_lock);
  if (!lock || conn.write_ended) return 0;
  const int result = UpdateOwnKeys(conn, /*dont_wait=*/true);
  return result == -EAGAIN ? 0 : result;
}

// Repeats the call until something other than a KeyUpdate comes, and remembers how reading ended.
template <typename Call>
ssize_t ReadBy(tlsbroker_conn& conn, Call call) {
  if (const int before = conn.read_result; before != tlsbroker_conn::kStillReading) return before;
  for (;;) {
    const ssize_t n = call();
    if (n == kKeyUpdate || n == kKeyUpdateRequested) {
      if (const int result = FollowPeer(conn, n == kKeyUpdateRequested); result < 0) return result;
      continue;
    }
    if (IsFinal(n)) conn.read_result = static_cast<int>(n);
    return n;
  }
}

// Whether TCP takes no more. Once a call has been told so, the kernel's TLS takes everything that
// is written, and drops it (tls_sw_sendmsg).
bool IsGone(const tlsbroker_conn& conn) {
  return conn.direct() && (conn.write_failed || conn.records.reset());
}

// Is called before anything is written, with `writing` held.
int BeforeWrite(tlsbroker_conn& conn) {
  if (IsGone(conn)) return -EPIPE;
  if (conn.write_ended || conn.cut())
    return conn.read_result == TLSBROKER_E_REKEY ? TLSBROKER_E_REKEY : -EPIPE;
  Rekeyer& rekeyer = conn.rekeyer;
  if (!conn.direct() || (!rekeyer.owed && !rekeyer.Due())) return 0;
  if (rekeyer.possible()) return UpdateOwnKeys(conn, IsNonblocking(conn));
  if (!rekeyer.Exhausted() || !conn.records.has_record_limit()) return 0;
  return Fail(conn, kInternalError, TLSBROKER_E_REKEY);
}

template <typename Call>
ssize_t WriteBy(tlsbroker_conn& conn, Call call) {
  const std::lock_guard lock(conn.writing);
  if (const int error = BeforeWrite(conn); error < 0) return error;
  const ssize_t n = Restarting(call);
  if (n > 0) conn.rekeyer.CountWritten(static_cast<uint64_t>(n));
  if (n == -EPIPE || n == -ECONNRESET) conn.write_failed = true;
  return n;
}

}  // namespace

ssize_t Read(tlsbroker_conn& conn, void* buffer, size_t size, int flags) {
  return ReadBy(conn, [&] {
    return conn.direct() ? conn.records.Read(conn.fd.get(), buffer, size, flags)
                         : ReadStream(conn.fd.get(), buffer, size, flags);
  });
}

int EndWrite(tlsbroker_conn& conn, bool dont_wait) {
  const std::lock_guard lock(conn.writing);
  if (conn.write_ended) return 0;
  if (conn.cut() || IsGone(conn)) return -EPIPE;
  const int result = conn.direct() ? SendCloseNotify(conn.fd.get(), dont_wait)
                                   : SendStreamEnd(conn.fd.get(), dont_wait);
  if (result == 0) conn.write_ended = true;
  return result;
}

}  // namespace tlsbroker::client

using tlsbroker::client::ReadBy;
using tlsbroker::client::SpliceFlags;
using tlsbroker::client::WriteBy;

int tlsbroker_conn_fd(const tlsbroker_conn* conn) { return conn->fd.get(); }

int tlsbroker_conn_set_nonblocking(tlsbroker_conn* conn, int nonblocking) {
  const int before = fcntl(conn->fd.get(), F_GETFL);
  if (before < 0) return -errno;
  const int after = nonblocking != 0 ? before | O_NONBLOCK : before & ~O_NONBLOCK;
  return fcntl(conn->fd.get(), F_SETFL, after) < 0 ? -errno : 0;
}

ssize_t tlsbroker_read(tlsbroker_conn* conn, void* buffer, size_t size) {
  if (size == 0) return -EINVAL;
  return tlsbroker::client::Read(*conn, buffer, size, 0);
}

int tlsbroker_conn_alert(const tlsbroker_conn* conn) { return conn->records.alert(); }

ssize_t tlsbroker_write(tlsbroker_conn* conn, const void* buffer, size_t size, unsigned flags) {
  const iovec part{const_cast<void*>(buffer), size};
  return tlsbroker_writev(conn, &part, 1, flags);
}

ssize_t tlsbroker_writev(tlsbroker_conn* conn, const iovec* parts, int count, unsigned flags) {
  if ((flags & ~TLSBROKER_MORE) != 0 || count < 0) return -EINVAL;
  msghdr header{};
  header.msg_iov = const_cast<iovec*>(parts);
  header.msg_iovlen = static_cast<size_t>(count);
  const int more = (flags & TLSBROKER_MORE) != 0 ? MSG_MORE : 0;
  return WriteBy(*conn, [&] { return sendmsg(conn->fd.get(), &header, MSG_NOSIGNAL | more); });
}

ssize_t tlsbroker_sendfile(tlsbroker_conn* conn, int file, off_t* offset, size_t size) {
  return WriteBy(*conn, [&] { return sendfile(conn->fd.get(), file, offset, size); });
}

ssize_t tlsbroker_splice_read(tlsbroker_conn* conn, int pipe, size_t size) {
  if (size == 0) return -EINVAL;
  return ReadBy(*conn, [&] {
    return conn->direct()
               ? conn->records.Splice(conn->fd.get(), pipe, size, SpliceFlags(*conn))
               : tlsbroker::client::SpliceStream(conn->fd.get(), pipe, size, SpliceFlags(*conn));
  });
}

ssize_t tlsbroker_splice_write(tlsbroker_conn* conn, int pipe, size_t size) {
  return WriteBy(*conn, [&] {
    return conn->direct()
               ? tlsbroker::client::SpliceIntoRecords(conn->fd.get(), pipe, size,
                                                      SpliceFlags(*conn))
               : splice(pipe, nullptr, conn->fd.get(), nullptr, size, SpliceFlags(*conn));
  });
}

int tlsbroker_update_keys(tlsbroker_conn* conn) {
  const std::lock_guard lock(conn->writing);
  if (conn->write_ended || conn->cut()) return -EPIPE;
  if (!conn->direct() || !conn->rekeyer.possible()) return -EOPNOTSUPP;
  return tlsbroker::client::UpdateOwnKeys(*conn, tlsbroker::client::IsNonblocking(*conn));
}

int tlsbroker_end_write(tlsbroker_conn* conn) { return tlsbroker::client::EndWrite(*conn, false); }
