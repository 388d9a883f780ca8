#include "broker/supervisor/event_loop.h"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

namespace tlsbroker::supervisor {

asio::awaitable<bool> Watch::Wait(asio::posix::stream_descriptor::wait_type type) {
  if (!descriptor_.is_open()) co_return false;
  asio::error_code error;
  co_await descriptor_.async_wait(type, asio::redirect_error(asio::use_awaitable, error));
  co_return !error;
}

asio::awaitable<bool> Watch::Readable() { return Wait(asio::posix::stream_descriptor::wait_read); }

asio::awaitable<bool> Watch::Writable() { return Wait(asio::posix::stream_descriptor::wait_write); }

void Watch::Cancel() {
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
