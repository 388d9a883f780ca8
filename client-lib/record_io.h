// SPDX-License-Identifier: Apache-2.0
// The direct mode: a TCP socket with kernel TLS, its control records and the end of its stream
// (PROTOCOL.md section 3.1). Runs in workers, on records that the peer authored.

#ifndef TLSBROKER_CLIENT_LIB_RECORD_IO_H_
#define TLSBROKER_CLIENT_LIB_RECORD_IO_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tlsbroker::client {

// Results beside those of tlsbroker_read(): a TLS 1.3 KeyUpdate was taken, and nothing can be read
// until the receiving keys have been changed.
inline constexpr int kKeyUpdate = -6001;
inline constexpr int kKeyUpdateRequested = -6002;  // and the peer wants one of ours

// Results as those of tlsbroker_read().
class RecordReader {
 public:
  // `takes_tickets`: we are a client in TLS 1.3, to whom the server sends them after the handshake.
  RecordReader(bool tls12, bool record_limit, bool takes_tickets)
      : tls12_(tls12), record_limit_(record_limit), takes_tickets_(takes_tickets) {}

  // `flags` is 0 or MSG_DONTWAIT. The caller has to follow a KeyUpdate. Answers a record that has
  // no place on such a connection with a fatal alert.
  ssize_t Read(int socket, void* buffer, size_t size, int flags);

  // The same into a pipe, by splice(2). -EAGAIN: nothing to read, or no room in the pipe; -EPIPE:
  // the pipe has no reader; -EINVAL: it is no pipe.
  ssize_t Splice(int socket, int pipe, size_t size, unsigned flags);

  // Whether RFC 8446 section 5.5 limits how much one key may seal: for AES-GCM in TLS 1.3.
  bool has_record_limit() const { return record_limit_; }

  bool reset() const { return reset_; }

  // The number of the fatal alert that the peer sent, or -1.
  int alert() const { return alert_; }

 private:
  struct ControlRecord;
  static ssize_t Take(int socket, ControlRecord& record, int flags);
  // A negative result, 0 for close_notify, or kIgnore.
  static constexpr int kIgnore = 1;
  int TakeControl(int socket, int flags);
  int JudgeNothing(int socket);
  bool IsFirstReset(int error);
  ssize_t GotData(ssize_t size);
  int Judge(int socket, const ControlRecord& record);
  int JudgeAlert(uint8_t level, uint8_t number);
  int JudgeHandshake(int socket, const ControlRecord& record);
  int RefuseRenegotiation(int socket);
  bool SkipTickets(const uint8_t*& at, const uint8_t* end);

  const bool tls12_;
  const bool record_limit_;
  const bool takes_tickets_;
  int ignored_ = 0;
  int empty_records_ = 0;  // since the last data
  // The kernel has told of a reset. The writing thread looks at it, too.
  std::atomic<bool> reset_ = false;
  int tickets_ = 0;         // records with tickets since the last data
  size_t header_size_ = 0;  // bytes that have come of a ticket's header
  uint8_t header_[4] = {};
  size_t ticket_rest_ = 0;  // bytes of a ticket that are still to come
  int alert_ = -1;
};

// splice(2) from a pipe, of no more than the pipe holds. Results as those of splice(2).
ssize_t SpliceIntoRecords(int socket, int pipe, size_t size, unsigned flags);

// Sends close_notify. Never shuts the socket down: close_notify may still be on its way inside the
// kernel's TLS, and would be lost. -EAGAIN: no room now.
int SendCloseNotify(int socket, bool dont_wait);

// Alerts of RFC 8446 section 6.
inline constexpr uint8_t kUnexpectedMessage = 10;
inline constexpr uint8_t kBadRecordMac = 20;
inline constexpr uint8_t kRecordOverflow = 22;
inline constexpr uint8_t kIllegalParameter = 47;
inline constexpr uint8_t kDecodeError = 50;
inline constexpr uint8_t kProtocolVersion = 70;
inline constexpr uint8_t kInternalError = 80;

// Sends a fatal alert, if there is room: the connection ends anyhow.
void SendFatalAlert(int socket, uint8_t number);

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_RECORD_IO_H_
