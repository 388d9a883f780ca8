// SPDX-License-Identifier: Apache-2.0
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
constexpr uint8_t kNoRecord = 0;
constexpr uint8_t kAlertRecord = 21;
constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kApplicationData = 23;
constexpr uint8_t kWarning = 1;
constexpr uint8_t kFatal = 2;
constexpr uint8_t kCloseNotify = 0;
constexpr uint8_t kUserCanceled = 90;
constexpr uint8_t kNoRenegotiation = 100;

// As many as OpenSSL lets pass; a peer that sends more wants to keep us busy.
constexpr int kMaxIgnoredAlerts = 5;

// Records with tickets in a row. A server usually sends two or a few, or one now and then.
constexpr int kMaxTickets = 32;
constexpr uint8_t kNewSessionTicket = 4;   // RFC 8446 section 4.6.1
constexpr uint8_t kKeyUpdateMessage = 24;  // section 4.6.3

// Empty records of application data in a row. They are lawful (RFC 8446 section 5.1), for example
// against traffic analysis, but a peer could send nothing else. As many as OpenSSL takes, which
// reads them on relayed connections. splice(2) shows each of them; recv(2) takes them and waits for
// what follows, so that Read() hardly ever sees one.
constexpr int kMaxEmptyRecords = 32;

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

// The connection only ends from here on: the alert, and nothing after it.
int Refuse(int socket, uint8_t number) {
  SendFatalAlert(socket, number);
  shutdown(socket, SHUT_WR);
  return TLSBROKER_E_PROTOCOL;
}

// Both directions of TCP are over: then a reset, and not a record, is why the kernel fails.
bool IsOver(int socket) {
  pollfd p{socket, 0, 0};
  return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

// What an error of a receiving call means. After some of them the kernel's TLS reads no more.
int ReadError(int socket, int error) {
  switch (error) {
    case ECONNRESET:
    case EPIPE:  // a reset behind a FIN (tcp_reset() in net/ipv4)
      return TLSBROKER_E_TRUNCATED;
    case EBADMSG:
      return IsOver(socket) ? TLSBROKER_E_TRUNCATED : Refuse(socket, kBadRecordMac);
    case EMSGSIZE:
      return Refuse(socket, kRecordOverflow);
    case EINVAL:
      return Refuse(socket, kProtocolVersion);
    case EKEYEXPIRED:
      return TLSBROKER_E_REKEY;
    default:
      return -error;
  }
}

bool IsPipe(int fd) { return fcntl(fd, F_GETPIPE_SZ) >= 0; }

bool HasReader(int pipe) {
  pollfd p{pipe, 0, 0};
  return poll(&p, 1, 0) == 0 || (p.revents & POLLERR) == 0;
}

// RFC 8446 section 4.6.3. The message is the last one of its record (section 5.1), since what comes
// behind it has another key. 0 if it is right, else the alert that it gets.
uint8_t JudgeKeyUpdate(const uint8_t* message, const uint8_t* end) {
  constexpr ptrdiff_t kHeader = 4;
  if (end - message < kHeader) return kUnexpectedMessage;
  if (message[1] != 0 || message[2] != 0 || message[3] != 1) return kDecodeError;
  if (end - message != kHeader + 1) return kUnexpectedMessage;
  return message[kHeader] > 1 ? kIllegalParameter : 0;
}

bool IsNonblocking(int socket) { return (fcntl(socket, F_GETFL) & O_NONBLOCK) != 0; }

bool HasRoom(int socket) {
  pollfd p{socket, POLLOUT, 0};
  return poll(&p, 1, 0) == 1;
}

// How many bytes splice(2) would find in the pipe now; 1 when splice(2) has to find out whether
// more can come, or what else is wrong.
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

// A receiving call without room for the record's type gets nothing but data from the kernel: at any
// other record it fails with EIO, again and again, until a recvmsg has that room
// (tls_record_content_type in net/tls/tls_sw.c).
ssize_t RecordReader::Read(int socket, void* buffer, size_t size, int flags) {
  for (;;) {
    const ssize_t n = recv(socket, buffer, size, flags);
    if (n > 0) return GotData(n);
    if (n == 0) {
      if (const int result = JudgeNothing(socket); result != kIgnore) return result;
      continue;
    }
    if (errno == EINTR || IsFirstReset(errno)) continue;
    if (errno != EIO) return ReadError(socket, errno);
    if (const int result = TakeControl(socket, flags); result != kIgnore) return result;
  }
}

// A control record makes splice(2) fail with EINVAL, and so do a record of another version and a
// descriptor that is no pipe. recv(2) with MSG_PEEK tells which, since it shows only data.
ssize_t RecordReader::Splice(int socket, int pipe, size_t size, unsigned flags) {
  for (;;) {
    const ssize_t n = splice(socket, nullptr, pipe, nullptr, size, flags);
    if (n > 0) return GotData(n);
    if (n == 0) {
      if (const int result = JudgeNothing(socket); result != kIgnore) return result;
      continue;
    }
    // A pipe that nobody reads says nothing about the socket.
    if (errno == EPIPE && !HasReader(pipe)) return -EPIPE;
    if (errno == EINTR || IsFirstReset(errno)) continue;
    if (errno != EINVAL) return ReadError(socket, errno);
    if (!IsPipe(pipe)) return -EINVAL;
    uint8_t byte;
    if (recv(socket, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) >= 0) continue;
    // splice(2) has taken the error of the version, so there is nothing to be read.
    if (errno == EAGAIN) return ReadError(socket, EINVAL);
    if (errno != EIO) return ReadError(socket, errno);
    if (const int result = TakeControl(socket, MSG_DONTWAIT); result != kIgnore) return result;
  }
}

ssize_t RecordReader::GotData(ssize_t size) {
  tickets_ = empty_records_ = 0;
  return size;
}

// The kernel tells of a reset as soon as no whole record is ready, even if it has not looked yet at
// what came before the reset (tls_rx_rec_wait). It does so once.
bool RecordReader::IsFirstReset(int error) {
  return (error == ECONNRESET || error == EPIPE) && !reset_.exchange(true);
}

// After a call that gave 0 bytes: the end of TCP, or only empty records of application data.
// splice(2) stops at each of those, and recv(2) gives 0 when a control record follows them. Such a
// recv(2) with MSG_PEEK gives 0, too. recvmsg(2) with room for the type then gives 0 bytes of the
// type 23 for the empty records, and no type at the end of TCP.
int RecordReader::JudgeNothing(int socket) {
  uint8_t byte;
  const ssize_t next = recv(socket, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
  if (next < 0 && errno != EAGAIN && errno != EIO && errno != EINTR && !IsFirstReset(errno))
    return ReadError(socket, errno);
  if (next == 0) {
    ControlRecord record;
    if (const ssize_t error = Take(socket, record, MSG_DONTWAIT); error < 0)
      return error == -EAGAIN ? kIgnore : static_cast<int>(error);
    if (record.type == kNoRecord) return TLSBROKER_E_TRUNCATED;  // TCP's end, without close_notify
    if (record.type != kApplicationData) return Judge(socket, record);
  }
  return ++empty_records_ <= kMaxEmptyRecords ? kIgnore : Refuse(socket, kUnexpectedMessage);
}

int RecordReader::TakeControl(int socket, int flags) {
  ControlRecord record;
  if (const ssize_t error = Take(socket, record, flags); error < 0) return static_cast<int>(error);
  if (record.type == kNoRecord) return TLSBROKER_E_TRUNCATED;
  return Judge(socket, record);
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
  if (n < 0) return ReadError(socket, errno);
  const cmsghdr* type = CMSG_FIRSTHDR(&header);
  const bool has_type =
      type != nullptr && type->cmsg_level == SOL_TLS && type->cmsg_type == TLS_GET_RECORD_TYPE;
  if (!has_type && n > 0) return TLSBROKER_E_PROTOCOL;
  record.type = has_type ? *CMSG_DATA(type) : kNoRecord;
  record.size = static_cast<size_t>(n);
  return 0;
}

int RecordReader::Judge(int socket, const ControlRecord& record) {
  if (record.type == kAlertRecord && record.size == 2)
    return JudgeAlert(record.bytes[0], record.bytes[1]);
  if (record.type == kHandshakeRecord)
    return tls12_ ? RefuseRenegotiation(socket) : JudgeHandshake(socket, record);
  return Refuse(socket, kUnexpectedMessage);
}

// The peer may go on without (RFC 5246 section 7.2.2), unless it insists.
int RecordReader::RefuseRenegotiation(int socket) {
  if (++ignored_ > kMaxIgnoredAlerts) return Refuse(socket, kUnexpectedMessage);
  (void)SendAlert(socket, kWarning, kNoRenegotiation, MSG_DONTWAIT);
  return kIgnore;
}

// Tickets are of no use to us: the broker makes the next connection. A KeyUpdate may follow them in
// one record, as its last message (RFC 8446 section 5.1).
int RecordReader::JudgeHandshake(int socket, const ControlRecord& record) {
  const uint8_t* at = record.bytes.data();
  const uint8_t* const end = at + record.size;
  const bool had_tickets = takes_tickets_ && SkipTickets(at, end);
  if (had_tickets && ++tickets_ > kMaxTickets) return Refuse(socket, kUnexpectedMessage);
  if (had_tickets && at == end) return kIgnore;
  if (at == end || *at != kKeyUpdateMessage) return Refuse(socket, kUnexpectedMessage);
  if (const uint8_t alert = JudgeKeyUpdate(at, end); alert != 0) return Refuse(socket, alert);
  return at[4] != 0 ? kKeyUpdateRequested : kKeyUpdate;
}

// Moves `at` behind the tickets, or parts of tickets, that begin there. False if there are none.
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

// Since Linux 6.5 splice(2) gives the socket the buffers of a pipe sixteen at a time, and says that
// more follows if it was asked for more bytes than these hold, even when the pipe is empty then
// (splice_to_socket() in fs/splice.c). The kernel's TLS keeps a record that is not full back until
// more comes, which may be never: the peer has to speak first. So we ask for no more than the pipe
// holds.
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

// A record that could not be opened leaves an error on the socket with which each further call
// fails; reading SO_ERROR takes it away.
void SendFatalAlert(int socket, uint8_t number) {
  int error = 0;
  socklen_t size = sizeof(error);
  (void)getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
  SendAlert(socket, kFatal, number, MSG_DONTWAIT);
}

}  // namespace tlsbroker::client
