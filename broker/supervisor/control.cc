// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/control.h"

#include <utility>

#include "protocol/channel.h"

namespace tlsbroker::supervisor {
namespace {

channel::Result TrySend(int socket, const supervision::Encoded& message) {
  return channel::Send(socket, message.bytes, message.fds, /*dont_wait=*/true);
}

}  // namespace

void ControlChannel::Use(UniqueFd socket) {
  socket_ = std::move(socket);
  watch_.emplace(executor_, socket_.get());
}

asio::awaitable<bool> ControlChannel::Send(supervision::Encoded message) {
  while (socket_) {
    const channel::Result result = TrySend(socket_.get(), message);
    if (result == channel::Result::kOk) co_return true;
    if (result != channel::Result::kWouldBlock) co_return false;
    const bool writable = co_await watch_->Writable();
    if (!writable) co_return false;
  }
  co_return false;
}

bool ControlChannel::SendNow(const supervision::Encoded& message) {
  return socket_ && TrySend(socket_.get(), message) == channel::Result::kOk;
}

void ControlChannel::Close() {
  if (watch_) watch_->Cancel();
  socket_.Reset();
}

}  // namespace tlsbroker::supervisor
