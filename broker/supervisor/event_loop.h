// SPDX-License-Identifier: Apache-2.0
// What the supervisor's coroutines wait for, in its one thread: a descriptor that somebody else
// owns, and a change that another coroutine made.
//
// A co_await here is a statement of its own or the whole right side of an initialization: GCC 12
// gives the frame of a coroutine two different layouts when it is in the condition of an if with an
// else.

#ifndef TLSBROKER_BROKER_SUPERVISOR_EVENT_LOOP_H_
#define TLSBROKER_BROKER_SUPERVISOR_EVENT_LOOP_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>

namespace tlsbroker::supervisor {

using Clock = asio::steady_timer::clock_type;

// Waits on a borrowed descriptor, which has to outlive this object. Asio may not own it: its
// close() leaves the epoll entry to the kernel, which keeps it as long as any process has a copy,
// and other processes have copies of most of ours.
//
// If the kernel does not let this user watch any more descriptors (fs.epoll.max_user_watches, which
// all processes of the user share), this looks every kLookPeriod instead: later, but it misses
// nothing.
class Watch {
 public:
  static constexpr std::chrono::milliseconds kLookPeriod{50};

  enum class How {
    kWatched,
    kLookedAt,  // for a descriptor that has to block: the event loop makes what it watches
                // non-blocking
  };

  Watch(const asio::any_io_executor& executor, int fd, How how = How::kWatched);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { Cancel(); }

  // False once Cancel() was called, before or meanwhile.
  asio::awaitable<bool> Readable();
  asio::awaitable<bool> Writable();

  // Ends all waits, and takes the descriptor out of the event loop.
  void Cancel();

 private:
  struct Looks {
    asio::steady_timer timer;
    int fd;
    bool cancelled = false;
  };

  asio::awaitable<bool> Wait(asio::posix::stream_descriptor::wait_type type, short events);
  static asio::awaitable<bool> Look(std::shared_ptr<Looks> looks, short events);

  asio::posix::stream_descriptor descriptor_;
  std::shared_ptr<Looks> looks_;  // if it is not watched
};

// Wakes the one coroutine that waits for it. A notification that nobody waits for is lost, so the
// waiter looks at what it waits for before each wait; nothing else runs in between.
class Event {
 public:
  explicit Event(const asio::any_io_executor& executor) : timer_(executor) {}

  void Notify() { timer_.cancel(); }
  // Returns at a notification or at `deadline`, whichever is first.
  asio::awaitable<void> Wait(Clock::time_point deadline = Clock::time_point::max());

 private:
  asio::steady_timer timer_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_EVENT_LOOP_H_
