// Reading, writing and ending one connection, whatever its mode. Part of libtlsbroker; runs in
// workers, trusts the broker and not the peer.

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <cerrno>

#include "client-lib/connection.h"
#include "client-lib/stream_io.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

// An end and a failure of the stream stay; an error of one call (-EAGAIN, -ENOMEM) does not.
bool IsFinal(ssize_t result) { return result == 0 || result < -4095; }

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
  const bool nonblocking = (fcntl(conn.fd.get(), F_GETFL) & O_NONBLOCK) != 0;
  return SPLICE_F_MOVE | (nonblocking ? SPLICE_F_NONBLOCK : 0U);
}

ssize_t SpliceRead(tlsbroker_conn& conn, int pipe, size_t size) {
  if (const int before = conn.read_result; before != tlsbroker_conn::kStillReading) return before;
  const unsigned flags = SpliceFlags(conn);
  const ssize_t n = conn.direct() ? conn.records.Splice(conn.fd.get(), pipe, size, flags)
                                  : SpliceStream(conn.fd.get(), pipe, size, flags);
  if (IsFinal(n)) conn.read_result = static_cast<int>(n);
  return n;
}

}  // namespace

ssize_t Read(tlsbroker_conn& conn, void* buffer, size_t size, int flags) {
  if (const int before = conn.read_result; before != tlsbroker_conn::kStillReading) return before;
  const ssize_t n = conn.direct() ? conn.records.Read(conn.fd.get(), buffer, size, flags)
                                  : ReadStream(conn.fd.get(), buffer, size, flags);
  if (IsFinal(n)) conn.read_result = static_cast<int>(n);
  return n;
}

int EndWrite(tlsbroker_conn& conn, bool dont_wait) {
  if (conn.write_ended) return 0;
  if (conn.cut()) return -EPIPE;
  const int result = conn.direct() ? SendCloseNotify(conn.fd.get(), dont_wait)
                                   : SendStreamEnd(conn.fd.get(), dont_wait);
  if (result == 0) conn.write_ended = true;
  return result;
}

}  // namespace tlsbroker::client

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
  if (conn->write_ended || conn->cut()) return -EPIPE;
  msghdr header{};
  header.msg_iov = const_cast<iovec*>(parts);
  header.msg_iovlen = static_cast<size_t>(count);
  const int more = (flags & TLSBROKER_MORE) != 0 ? MSG_MORE : 0;
  return tlsbroker::client::Restarting(
      [&] { return sendmsg(conn->fd.get(), &header, MSG_NOSIGNAL | more); });
}

ssize_t tlsbroker_sendfile(tlsbroker_conn* conn, int file, off_t* offset, size_t size) {
  if (conn->write_ended || conn->cut()) return -EPIPE;
  return tlsbroker::client::Restarting(
      [&] { return sendfile(conn->fd.get(), file, offset, size); });
}

ssize_t tlsbroker_splice_read(tlsbroker_conn* conn, int pipe, size_t size) {
  if (size == 0) return -EINVAL;
  return tlsbroker::client::SpliceRead(*conn, pipe, size);
}

ssize_t tlsbroker_splice_write(tlsbroker_conn* conn, int pipe, size_t size) {
  if (conn->write_ended || conn->cut()) return -EPIPE;
  return tlsbroker::client::Restarting([&] {
    return splice(pipe, nullptr, conn->fd.get(), nullptr, size,
                  tlsbroker::client::SpliceFlags(*conn));
  });
}

int tlsbroker_end_write(tlsbroker_conn* conn) { return tlsbroker::client::EndWrite(*conn, false); }
