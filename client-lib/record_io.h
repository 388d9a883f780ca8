// The direct mode: a TCP socket with kernel TLS, its control records and the end of its stream
// (PROTOCOL.md section 3.1). Runs in workers, on records that the peer authored.

#ifndef TLSBROKER_CLIENT_LIB_RECORD_IO_H_
#define TLSBROKER_CLIENT_LIB_RECORD_IO_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace tlsbroker::client {

// Results as those of tlsbroker_read().
class RecordReader {
 public:
  explicit RecordReader(bool tls12) : tls12_(tls12) {}

  // `flags` is 0 or MSG_DONTWAIT. Answers a record that has no place here with a fatal alert.
  ssize_t Read(int socket, void* buffer, size_t size, int flags);

  // The same into a pipe, by splice(2). -EAGAIN: nothing to read, or no room in the pipe; -EPIPE: the
  // pipe has no reader; -EINVAL: it is no pipe.
  ssize_t Splice(int socket, int pipe, size_t size, unsigned flags);

  // The number of the fatal alert that the peer sent, or -1.
  int alert() const { return alert_; }

 private:
  struct ControlRecord;
  static ssize_t Take(int socket, ControlRecord& record, int flags);
  // A negative result, 0 for close_notify, or kIgnore.
  static constexpr int kIgnore = 1;
  int Judge(int socket, const ControlRecord& record);
  int JudgeAlert(uint8_t level, uint8_t number);

  const bool tls12_;
  int ignored_ = 0;
  int alert_ = -1;
};

// Sends close_notify. Never shuts the socket down: close_notify may still be on its way inside the
// kernel's TLS, and would be lost. -EAGAIN: no room now.
int SendCloseNotify(int socket, bool dont_wait);

// Tells the peer that what it got is not the whole, if there is room: the fatal alert internal_error.
void SendFailure(int socket);

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_RECORD_IO_H_
