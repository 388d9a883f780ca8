#include "client-lib/record_io.h"

#include <fcntl.h>
#include <linux/tls.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

// Record types and alerts of RFC 8446, sections 5.1 and 6.
constexpr uint8_t kAlertRecord = 21;
constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kDataRecord = 23;
constexpr uint8_t kWarning = 1;
constexpr uint8_t kFatal = 2;
constexpr uint8_t kCloseNotify = 0;
constexpr uint8_t kUserCanceled = 90;

// As many as OpenSSL lets pass; more is somebody who wants to keep us busy.
constexpr int kMaxIgnoredAlerts = 5;

// Records with tickets in a row. A server sends two, or a few more, or one now and then.
constexpr int kMaxTickets = 32;
constexpr uint8_t kNewSessionTicket = 4;  // RFC 8446 section 4.6.1

int SendAlert(int socket, uint8_t level, uint8_t number, int flags) {
  std::array<uint8_t, 2> content = {level, number};
  iovec iov{content.data(), content.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint8_t))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* type = CMSG_FIRSTHDR(&header);
  type->cmsg_level = SOL_TLS;
  type->cmsg_type = TLS_SET_RECORD_TYPE;
  type->cmsg_len = CMSG_LEN(sizeof(uint8_t));
  *CMSG_DATA(type) = kAlertRecord;
  ssize_t n;
  do {
    n = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

int Refuse(int socket, uint8_t number, int result) {
  SendFatalAlert(socket, number);
  return result;
}

int ReadError(int error) {
  switch (error) {
    case ECONNRESET:
      return TLSBROKER_E_TRUNCATED;
    case EBADMSG:
      return TLSBROKER_E_PROTOCOL;
    case EKEYEXPIRED:
      return TLSBROKER_E_REKEY;
    default:
      return -error;
  }
}

bool IsKeyUpdate(const uint8_t* message, const uint8_t* end) {  // RFC 8446 section 4.6.3
  constexpr std::array<uint8_t, 4> kStart = {24, 0, 0, 1};
  return end - message == 5 && std::memcmp(message, kStart.data(), kStart.size()) == 0 &&
         message[4] <= 1;
}

bool IsNonblocking(int socket) { return (fcntl(socket, F_GETFL) & O_NONBLOCK) != 0; }

bool HasRoom(int socket) {
  pollfd p{socket, POLLOUT, 0};
  return poll(&p, 1, 0) == 1;
}

// How much splice(2) finds in the pipe if it is asked now; 1 when it has to find out whether more
// can come, or what else is wrong.
size_t PresentIn(int pipe, bool dont_wait) {
  int present = 0;
  if (ioctl(pipe, FIONREAD, &present) == 0 && present == 0 && !dont_wait && !IsNonblocking(pipe)) {
    pollfd p{pipe, POLLIN, 0};
    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
    if (ioctl(pipe, FIONREAD, &present) != 0) present = 0;
  }
  return static_cast<size_t>(std::max(present, 1));
}

}  // namespace

struct RecordReader::ControlRecord {
  uint8_t type = 0;
  size_t size = 0;
  // The whole of any record (RFC 8446 section 5.1). Not initialized: most of it is never looked at.
  std::array<uint8_t, 16 * 1024> bytes;
};

// The kernel refuses to deliver anything but data without room for the record's type: EIO, again
// and again, until a recvmsg has it (tls_record_content_type in net/tls/tls_sw.c).
ssize_t RecordReader::Read(int socket, void* buffer, size_t size, int flags) {
  for (;;) {
    const ssize_t n = recv(socket, buffer, size, flags);
    if (n > 0) {
      tickets_ = 0;
      return n;
    }
    if (n == 0) return TLSBROKER_E_TRUNCATED;  // TCP's end, without close_notify
    if (errno == EINTR) continue;
    if (errno != EIO) return ReadError(errno);
    ControlRecord record;
    if (const ssize_t error = Take(socket, record, flags); error < 0) return error;
    if (const int result = Judge(socket, record); result != kIgnore) return result;
  }
}

// A control record makes splice(2) fail with EINVAL, and so does a descriptor that is no pipe: the
// record is looked at before it is taken.
ssize_t RecordReader::Splice(int socket, int pipe, size_t size, unsigned flags) {
  for (;;) {
    const ssize_t n = splice(socket, nullptr, pipe, nullptr, size, flags);
    if (n > 0) {
      tickets_ = 0;
      return n;
    }
    if (n == 0) return TLSBROKER_E_TRUNCATED;
    if (errno == EINTR) continue;
    if (errno == EPIPE) return -EPIPE;
    if (errno != EINVAL) return ReadError(errno);
    ControlRecord record;
    if (const ssize_t error = Take(socket, record, MSG_PEEK | MSG_DONTWAIT); error < 0)
      return error;
    if (record.type == kDataRecord) return -EINVAL;
    if (const ssize_t error = Take(socket, record, MSG_DONTWAIT); error < 0) return error;
    if (const int result = Judge(socket, record); result != kIgnore) return result;
  }
}

ssize_t RecordReader::Take(int socket, ControlRecord& record, int flags) {
  iovec iov{record.bytes.data(), record.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint8_t))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t n;
  do {
    n = recvmsg(socket, &header, flags);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return ReadError(errno);
  const cmsghdr* type = CMSG_FIRSTHDR(&header);
  if (type == nullptr || type->cmsg_level != SOL_TLS || type->cmsg_type != TLS_GET_RECORD_TYPE)
    return TLSBROKER_E_PROTOCOL;
  record.type = *CMSG_DATA(type);
  record.size = static_cast<size_t>(n);
  return 0;
}

int RecordReader::Judge(int socket, const ControlRecord& record) {
  if (record.type == kAlertRecord && record.size == 2)
    return JudgeAlert(record.bytes[0], record.bytes[1]);
  if (record.type == kHandshakeRecord && !tls12_) return JudgeHandshake(socket, record);
  return Refuse(socket, kUnexpectedMessage, TLSBROKER_E_PROTOCOL);
}

// Tickets are of no use to us: the next connection is the broker's to make. A KeyUpdate may follow
// them in one record, as its last message (RFC 8446 section 5.1).
int RecordReader::JudgeHandshake(int socket, const ControlRecord& record) {
  const uint8_t* at = record.bytes.data();
  const uint8_t* const end = at + record.size;
  const bool had_tickets = takes_tickets_ && SkipTickets(at, end);
  if (had_tickets && ++tickets_ > kMaxTickets)
    return Refuse(socket, kUnexpectedMessage, TLSBROKER_E_PROTOCOL);
  if (had_tickets && at == end) return kIgnore;
  if (IsKeyUpdate(at, end)) return at[4] != 0 ? kKeyUpdateRequested : kKeyUpdate;
  return Refuse(socket, kUnexpectedMessage, TLSBROKER_E_PROTOCOL);
}

// From `at` on, which moves behind what are tickets, or parts of such. False if there are none.
bool RecordReader::SkipTickets(const uint8_t*& at, const uint8_t* end) {
  const uint8_t* const start = at;
  while (at < end) {
    const auto left = static_cast<size_t>(end - at);
    if (ticket_rest_ > 0) {
      const size_t part = std::min(ticket_rest_, left);
      ticket_rest_ -= part;
      at += part;
      continue;
    }
    if (header_size_ == 0 && *at != kNewSessionTicket) break;
    header_[header_size_++] = *at++;
    if (header_size_ < sizeof(header_)) continue;
    header_size_ = 0;
    ticket_rest_ = size_t{header_[1]} << 16 | size_t{header_[2]} << 8 | header_[3];
  }
  return at > start;
}

// TLS 1.3 has no warnings any more: all but two alerts are fatal, whatever their level (RFC 8446
// section 6). In TLS 1.2 the level decides (RFC 5246 section 7.2.2).
int RecordReader::JudgeAlert(uint8_t level, uint8_t number) {
  if (number == kCloseNotify) return 0;
  const bool warning = number == kUserCanceled || (tls12_ && level == kWarning);
  if (warning && ++ignored_ <= kMaxIgnoredAlerts) return kIgnore;
  alert_ = number;
  return TLSBROKER_E_ALERT;
}

// Since Linux 6.5 splice(2) gives the socket the buffers of a pipe by sixteens, and says that more
// follows if it was asked for more bytes than these hold, even when the pipe is empty then
// (splice_to_socket() in fs/splice.c). The kernel's TLS keeps a record that is not full back until
// more comes, which may be never: the peer has to speak first. So it is asked for what there is.
ssize_t SpliceIntoRecords(int socket, int pipe, size_t size, unsigned flags) {
  if (size > 1) size = std::min(size, PresentIn(pipe, (flags & SPLICE_F_NONBLOCK) != 0));
  return splice(pipe, nullptr, socket, nullptr, size, flags);
}

// A record that a non-blocking socket took may wait in the kernel's TLS for room in TCP, and is
// dropped there when the socket is closed (tls_sw_release_resources_tx). So close_notify is sent
// only when poll sees room for more than a whole record: then all that waits goes before it.
int SendCloseNotify(int socket, bool dont_wait) {
  if ((dont_wait || IsNonblocking(socket)) && !HasRoom(socket)) return -EAGAIN;
  return SendAlert(socket, kWarning, kCloseNotify, dont_wait ? MSG_DONTWAIT : 0);
}

void SendFatalAlert(int socket, uint8_t number) { SendAlert(socket, kFatal, number, MSG_DONTWAIT); }

}  // namespace tlsbroker::client
