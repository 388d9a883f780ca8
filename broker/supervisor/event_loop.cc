// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/event_loop.h"

#include <poll.h>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <string>
#include <utility>

#include "broker/support/log.h"

namespace tlsbroker::supervisor {

Watch::Watch(const asio::any_io_executor& executor, int fd, How how) : descriptor_(executor) {
  asio::error_code error;
  if (how == How::kWatched) {
    descriptor_.assign(fd, error);
    if (!error) return;
    log::Error("descriptors cannot be watched, looking every " +
               std::to_string(kLookPeriod.count()) + " ms instead: " + error.message());
  }
  looks_ = std::make_shared<Looks>(Looks{asio::steady_timer(executor), fd});
}

asio::awaitable<bool> Watch::Wait(asio::posix::stream_descriptor::wait_type type, short events) {
  if (looks_) {
    const bool ready = co_await Look(looks_, events);
    co_return ready;
  }
  if (!descriptor_.is_open()) co_return false;
  asio::error_code error;
  co_await descriptor_.async_wait(type, asio::redirect_error(asio::use_awaitable, error));
  co_return !error;
}

asio::awaitable<bool> Watch::Look(std::shared_ptr<Looks> looks, short events) {
  while (!looks->cancelled) {
    pollfd polled{.fd = looks->fd, .events = events, .revents = 0};
    if (poll(&polled, 1, 0) > 0) co_return true;
    looks->timer.expires_after(kLookPeriod);
    asio::error_code ignored;
    co_await looks->timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return false;
}

asio::awaitable<bool> Watch::Readable() {
  return Wait(asio::posix::stream_descriptor::wait_read, POLLIN);
}

asio::awaitable<bool> Watch::Writable() {
  return Wait(asio::posix::stream_descriptor::wait_write, POLLOUT);
}

void Watch::Cancel() {
  if (looks_) {
    looks_->cancelled = true;
    looks_->timer.cancel();
  }
  if (!descriptor_.is_open()) return;
  asio::error_code ignored;
  descriptor_.cancel(ignored);
  descriptor_.release();
}

asio::awaitable<void> Event::Wait(Clock::time_point deadline) {
  timer_.expires_at(deadline);
  asio::error_code ignored;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace tlsbroker::supervisor
