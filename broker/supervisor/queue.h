// A service's queue: the pair of sockets over which handshakers hand connections to workers, sized
// so that exactly as many descriptions wait in it as the service's backlog says. And another pair
// for the workers' requests. Runs in the supervisor, which keeps all ends, hands out copies, and
// never reads or writes.

#ifndef TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_
#define TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class Queue {
 public:
  static absl::StatusOr<Queue> Open(uint32_t backlog);

  // What handshakers and workers get copies of.
  int sending() const { return sending_.get(); }
  int receiving() const { return receiving_.get(); }
  // The other way, for workers and handshakers.
  int requesting() const { return requesting_.get(); }
  int answering() const { return answering_.get(); }

  // Descriptions of handoff::kPaddedSize that fit. Not always the backlog: the kernel has a
  // smallest buffer, room for about four, and without CAP_NET_ADMIN a largest (net.core.wmem_max).
  uint32_t capacity() const { return capacity_; }

  absl::Status Resize(uint32_t backlog);

  // Connections that wait in it.
  uint32_t waiting() const;

  // A descriptor that is readable while a connection waits, for the event loop: that makes what it
  // watches non-blocking, and the flag of the receiving end itself is that of all workers.
  absl::StatusOr<UniqueFd> OpenWaitDescriptor() const;

  // A worker can shut the receiving end down for good, for all workers of the service: shutdown(2)
  // is about the socket, not about the descriptor.
  bool Broken() const;

  // Workers see the end of file when no handshaker has a copy any more.
  void CloseSending() { sending_.Reset(); }

 private:
  UniqueFd sending_;
  UniqueFd receiving_;
  UniqueFd requesting_;
  UniqueFd answering_;
  uint32_t capacity_ = 0;
  int cost_ = 1;  // of one message in the sender's buffer, in bytes
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_
