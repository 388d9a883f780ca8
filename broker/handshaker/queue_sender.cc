// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/queue_sender.h"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <vector>

#include "broker/handshaker/description.h"
#include "broker/support/log.h"
#include "protocol/channel.h"

namespace tlsbroker {

QueueSender::QueueSender(const asio::any_io_executor& executor, UniqueFd socket,
                         supervision::Counters& counters)
    : socket_(executor, std::move(socket)),
      counters_(counters),
      room_(executor, asio::steady_timer::time_point::max()) {}

asio::awaitable<bool> QueueSender::HandOff(const handoff::Description& description, UniqueFd fd) {
  const std::vector<uint8_t> message = handoff::Encode(description);
  const int fds[] = {fd.get()};
  int error = 0;
  const auto send = [&] {
    const channel::Result result = channel::Send(socket_.get(), message, fds, /*dont_wait=*/true);
    error = errno;
    return result;
  };
  channel::Result result = send();
  if (result == channel::Result::kWouldBlock) {
    ++counters_.queue_waits;
    ++waiting_;
    while (result == channel::Result::kWouldBlock) {
      const bool writable = co_await socket_.WaitWritable();
      if (!writable) break;
      result = send();
    }
    if (--waiting_ == 0) room_.cancel();
  }
  if (result == channel::Result::kClosed || result == channel::Result::kError)
    log::Error(LostLine(description, error));
  co_return result == channel::Result::kOk;
}

asio::awaitable<void> QueueSender::WaitForRoom() {
  while (waiting_ > 0) {
    asio::error_code woken;
    co_await room_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
}

}  // namespace tlsbroker
