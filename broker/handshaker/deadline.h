// SPDX-License-Identifier: Apache-2.0
// A total time limit on what is done with a descriptor: when it passes, the descriptor's waits
// fail. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_DEADLINE_H_
#define TLSBROKER_BROKER_HANDSHAKER_DEADLINE_H_

#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>

#include "broker/handshaker/async_fd.h"

namespace tlsbroker {

class Deadline {
 public:
  // Borrows `fd`, which has to outlive this object.
  Deadline(const asio::any_io_executor& executor, std::chrono::milliseconds limit, AsyncFd& fd)
      : timer_(executor, limit), target_(std::make_shared<AsyncFd*>(&fd)) {
    // A timer that has expired cannot be cancelled any more: its handler may run after the
    // descriptor is gone, which the weak pointer tells it.
    timer_.async_wait([target = std::weak_ptr<AsyncFd*>(target_)](const asio::error_code& error) {
      const auto held = target.lock();
      if (error || !held) return;
      (*held)->Cancel();
    });
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  bool passed() const { return timer_.expiry() <= asio::steady_timer::clock_type::now(); }

 private:
  asio::steady_timer timer_;
  std::shared_ptr<AsyncFd*> target_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_DEADLINE_H_
