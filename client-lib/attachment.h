// SPDX-License-Identifier: Apache-2.0
// How a worker attaches to its broker, and attaches again when the broker has been restarted. Part
// of libtlsbroker.

#ifndef TLSBROKER_CLIENT_LIB_ATTACHMENT_H_
#define TLSBROKER_CLIENT_LIB_ATTACHMENT_H_

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "protocol/unique_fd.h"

struct tlsbroker_queue;

namespace tlsbroker::client {

class Attachment {
 public:
  explicit Attachment(std::string path) : path_(std::move(path)) {}

  // Attaches for the first time: waits for the broker's answer and fills the queue in. Returns 0,
  // or what tlsbroker_attach() gives.
  int Begin(tlsbroker_queue& queue);

  // For a queue that is at its end: does the next step to a new one, without waiting. 0: `queue` is
  // there again, its descriptor under the same number; -EAGAIN: fd() is readable when there is a
  // next step; else what tlsbroker_attach() gives, and a further call goes on all the same.
  int GoOn(tlsbroker_queue& queue);

  // Readable when a connection waits, or GoOn has something to do.
  int fd() const { return events_.get(); }
  std::shared_ptr<UniqueFd> requests(const tlsbroker_queue& queue) const;

 private:
  enum class State { kAttached, kAsking, kPausing };

  int Connect(int flags);
  int Ask();
  int TakeAnswer(tlsbroker_queue& queue, bool dont_wait);
  int Pause();
  int Watch(int fd);
  bool QueueHasEnded(const tlsbroker_queue& queue) const;
  static int Receive(int socket, bool dont_wait, UniqueFd& queue, UniqueFd& requests);

  const std::string path_;
  mutable std::mutex mutex_;  // several threads take connections
  State state_ = State::kAsking;
  UniqueFd socket_;  // tells the broker that we are there
  UniqueFd events_;  // epoll: has the queue, the socket or the timer, whichever we wait for
  UniqueFd timer_;
  std::chrono::milliseconds pause_{0};
};

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_ATTACHMENT_H_
