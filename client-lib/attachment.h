// The bond of an attached worker to its broker: it lasts over restarts of the broker. Part of
// libtlsbroker.

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

  // The first time; waits for the broker's answer. Fills the queue in. 0, or what
  // tlsbroker_attach() gives.
  int Begin(tlsbroker_queue& queue);

  // When the queue is at its end: the next step to a new one, without waiting. 0: `queue` is there
  // again, its descriptor under the same number; -EAGAIN: fd() is readable when there is a next
  // step; else what tlsbroker_attach() gives, after which it goes on all the same.
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
  UniqueFd events_;  // epoll: of the queue, else of the socket, else of the timer
  UniqueFd timer_;
  std::chrono::milliseconds pause_{0};
};

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_ATTACHMENT_H_
