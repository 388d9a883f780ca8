// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/connector.h"

#include <sys/socket.h>

#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <utility>

#include "broker/handshaker/deadline.h"
#include "protocol/service_messages.h"

namespace tlsbroker {
namespace {

std::chrono::milliseconds Left(Connector::Clock::time_point until) {
  return std::chrono::ceil<std::chrono::milliseconds>(until - Connector::Clock::now());
}

int ErrorOf(int socket) {
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

}  // namespace

struct Connector::Waiting {
  asio::steady_timer timer;
  supervision::Connected answer;
};

asio::awaitable<supervision::Connected> Connector::WaitForAnswer(uint16_t upstream_id,
                                                                 Clock::time_point until) {
  const uint32_t request = ++last_request_;
  const auto executor = co_await asio::this_coro::executor;
  Waiting waiting{asio::steady_timer(executor, until), {}};
  waiting.answer.error = ETIMEDOUT;
  if (!ask_ || !ask_(supervision::Connect{request, upstream_id})) {
    waiting.answer.error = EAGAIN;
    co_return std::move(waiting.answer);
  }
  waiting_[request] = &waiting;
  asio::error_code answered;
  co_await waiting.timer.async_wait(asio::redirect_error(asio::use_awaitable, answered));
  waiting_.erase(request);
  co_return std::move(waiting.answer);
}

void Connector::OnConnected(supervision::Connected answer) {
  const auto found = waiting_.find(answer.request);
  if (found == waiting_.end()) return;
  found->second->answer = std::move(answer);
  found->second->timer.cancel();
}

asio::awaitable<Connector::Outcome> Connector::Connect(uint16_t upstream_id,
                                                       Clock::time_point until) {
  Outcome outcome;
  supervision::Connected answer = co_await WaitForAnswer(upstream_id, until);
  outcome.error = static_cast<int>(answer.error);
  if (!answer.socket) co_return outcome;
  const auto executor = co_await asio::this_coro::executor;
  AsyncFd socket(executor, std::move(answer.socket));
  const Deadline deadline(executor, Left(until), socket);
  const bool writable = co_await socket.WaitWritable();
  outcome.error = writable ? ErrorOf(socket.get()) : ETIMEDOUT;
  if (outcome.error == 0) outcome.socket = socket.Release();
  co_return outcome;
}

}  // namespace tlsbroker
