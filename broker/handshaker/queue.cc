#include "broker/handshaker/queue.h"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <vector>

#include "protocol/channel.h"

namespace tlsbroker {

Queue::Queue(const asio::any_io_executor& executor, UniqueFd socket,
             supervision::Counters& counters)
    : socket_(executor, std::move(socket)),
      counters_(counters),
      room_(executor, asio::steady_timer::time_point::max()) {}

asio::awaitable<bool> Queue::HandOff(const handoff::Description& description, UniqueFd fd) {
  const std::vector<uint8_t> message = handoff::Encode(description);
  if (message.empty()) co_return false;
  const int fds[] = {fd.get()};
  channel::Result result = channel::Send(socket_.get(), message, fds, /*dont_wait=*/true);
  if (result == channel::Result::kWouldBlock) {
    ++counters_.queue_waits;
    ++waiting_;
    while (result == channel::Result::kWouldBlock && co_await socket_.WaitWritable()) {
      result = channel::Send(socket_.get(), message, fds, /*dont_wait=*/true);
    }
    if (--waiting_ == 0) room_.cancel();
  }
  co_return result == channel::Result::kOk;
}

asio::awaitable<void> Queue::WaitForRoom() {
  while (waiting_ > 0) {
    asio::error_code woken;
    co_await room_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
}

}  // namespace tlsbroker
