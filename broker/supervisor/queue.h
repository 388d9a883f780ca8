// SPDX-License-Identifier: Apache-2.0
// A service's queue: the pair of sockets over which handshakers hand connections to workers, sized
// so that exactly as many descriptions wait in it as the service's backlog says. And another pair
// for the workers' requests. Runs in the supervisor, which keeps all ends, hands out copies, and
// never reads or writes.

#ifndef TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_
#define TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class Queue {
 public:
  static absl::StatusOr<Queue> Open(uint32_t backlog, const std::string& service);
  // Another process drops what lies unread in the queue, since it came from handshakers and workers
  // (elsewhere.h).
  ~Queue();
  Queue(Queue&&) = default;
  Queue& operator=(Queue&&) = delete;

  // Handshakers and workers get copies of these.
  int sending() const { return sending_.get(); }
  int receiving() const { return receiving_.get(); }
  // The pair for the other way: its ends are for workers and for handshakers.
  int requesting() const { return requesting_.get(); }
  int answering() const { return answering_.get(); }

  // Descriptions of handoff::kPaddedSize that fit. Not always the backlog: the kernel has a
  // smallest buffer, room for about four, and without CAP_NET_ADMIN a largest (net.core.wmem_max).
  uint32_t capacity() const { return capacity_; }

  // Touches the socket only if it changes anything.
  absl::Status Resize(uint32_t backlog);

  // Connections that wait in it.
  uint32_t waiting() const;

  // Drops the connections at its front whose clients have ended their direction, in another
  // process; perhaps after this has returned. Such a client may wait for an answer, so this is for
  // connections that no worker takes any more.
  void DropEnded() const;

  // A worker can shut its ends down for good, that of the queue or that of the requests, for all
  // workers of the service: shutdown(2) is about the socket, not about the descriptor.
  bool Broken() const;

  // Workers see the end of file when no handshaker has a copy any more.
  void CloseSending() { sending_.Reset(); }

 private:
  explicit Queue(const std::string& service) : service_(service) {}

  std::string service_;
  UniqueFd sending_;
  UniqueFd receiving_;
  UniqueFd requesting_;
  UniqueFd answering_;
  uint32_t backlog_ = 0;  // that it was made for
  uint32_t capacity_ = 0;
  int cost_ = 1;  // of one message in the sender's buffer, in bytes
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_QUEUE_H_
