// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/request_server.h"

#include <fcntl.h>

#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <bit>
#include <chrono>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/opening.h"
#include "broker/handshaker/rekey.h"
#include "broker/support/descriptors.h"
#include "broker/support/log.h"
#include "protocol/channel.h"

namespace tlsbroker {
namespace {

using Clock = std::chrono::steady_clock;

// Only the 1st, 2nd, 4th, 8th... are logged, since a worker can send as many as it likes.
void Refuse(Shared& shared, const Service& service, absl::string_view why) {
  if (!std::has_single_bit(++shared.counters.rekey_refused)) return;
  log::Warning(absl::StrCat("refused a request", log::Field("service", service.name),
                            log::Field("why", std::string(why)),
                            log::Field("count", absl::StrCat(shared.counters.rekey_refused))));
}

// Held while a connection's keys are looked at and changed. Two handshakers with the same token
// would both find it good, and the second would start the new key's record numbers again. A record
// lock of fcntl(2) belongs to the process, whoever else has the file open, and ends with it.
class RekeyLock {
 public:
  explicit RekeyLock(const Shared& shared) : file_(shared.rekey_lock.get()) {}
  RekeyLock(const RekeyLock&) = delete;
  RekeyLock& operator=(const RekeyLock&) = delete;
  ~RekeyLock() {
    if (held_) (void)Set(F_UNLCK);
  }

  // Other handshakers hold the lock for microseconds, unless they are stopped.
  asio::awaitable<bool> Take() {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (int tries = 0; tries < 1000 && !held_; ++tries) {
      held_ = Set(F_WRLCK);
      if (held_) break;
      timer.expires_after(std::chrono::milliseconds(1));
      co_await timer.async_wait(asio::use_awaitable);
    }
    co_return held_;
  }

 private:
  bool Set(short type) const {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    return fcntl(file_, F_SETLK, &lock) == 0;
  }

  const int file_;
  bool held_ = false;
};

void AnswerRekey(Shared& shared, const Service& service, const request::Rekey& rekey,
                 const channel::Message& message) {
  const RekeyOutcome outcome =
      NextKeys(shared.library, shared.sealing, rekey, message.fds[1].get());
  switch (outcome.answer.status) {
    case request::Status::kDone:
      ++shared.counters.rekeyed;
      break;
    case request::Status::kBusy:
      break;
    case request::Status::kRefused:
    case request::Status::kFailed:
      Refuse(shared, service, outcome.status.message());
      break;
  }
  (void)channel::Send(message.fds[0].get(), request::Encode(outcome.answer), {},
                      /*dont_wait=*/true);
}

void Answer(Shared& shared, Service& service, channel::Message& message) {
  const size_t count = message.fds.size();
  const bool has_answer = count > 0 && IsChannel(message.fds[0].get());
  const auto rekey = request::DecodeRekey(message.bytes);
  if (rekey && has_answer && count == 2) return AnswerRekey(shared, service, *rekey, message);
  const auto dial = request::DecodeDial(message.bytes);
  if (dial && has_answer && count == 1) {
    return StartDial(shared, service, *dial, std::move(message.fds[0]));
  }
  auto wrap = request::DecodeWrap(message.bytes);
  if (!wrap || !has_answer || count != 2) return Refuse(shared, service, "malformed");
  UniqueFd answer = std::move(message.fds[0]);
  if (!CanBeWrapped(message.fds[1].get())) {
    return RefuseToOpen(shared, service, std::move(answer), request::Result::kBadSocket);
  }
  StartWrap(shared, service, *std::move(wrap), std::move(answer), std::move(message.fds[1]));
}

class Pace {
 public:
  // How long the next request has to wait.
  Clock::duration Next() {
    const auto now = Clock::now();
    if (now - since_ >= std::chrono::seconds(1)) {
      since_ = now;
      count_ = 0;
    }
    return ++count_ <= kMaxRequestsPerSecond ? Clock::duration(0)
                                             : since_ + std::chrono::seconds(1) - now;
  }

 private:
  Clock::time_point since_{};
  int count_ = 0;
};

}  // namespace

asio::awaitable<void> AnswerRequests(Shared& shared, Service& service, AsyncFd& requests) {
  Pace pace;
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  while (!requests.cancelled()) {
    channel::Message message;
    const auto result = channel::Receive(requests.get(), request::kMaxMessage, 2, message,
                                         /*dont_wait=*/true);
    if (result == channel::Result::kWouldBlock) {
      const bool readable = co_await requests.WaitReadable();
      if (!readable) co_return;
      continue;
    }
    if (result == channel::Result::kMalformed) Refuse(shared, service, "malformed");
    if (result == channel::Result::kOk) {
      // Only a rekey takes the lock: a handshaker may hang while it holds the lock, if the socket
      // of a worker is locked, and keeps the other handshakers from it until the supervisor can end
      // it.
      RekeyLock lock(shared);
      bool may = true;
      if (request::DecodeRekey(message.bytes)) {
        const bool locked = co_await lock.Take();
        may = locked;
      }
      may ? Answer(shared, service, message) : Refuse(shared, service, "locked");
    }
    message.fds.clear();  // the sender waits until these copies are closed
    if (result == channel::Result::kClosed || result == channel::Result::kError) {
      // A worker has called shutdown(2) on the socket, or worse. Only its own service has to do
      // without.
      log::Warning(absl::StrCat(
          "the socket for requests was shut down; no more requests of workers are answered",
          log::Field("service", service.name)));
      co_return;
    }
    const Clock::duration wait = pace.Next();
    if (wait == Clock::duration(0)) {
      co_await asio::post(shared.io, asio::use_awaitable);  // the others' turn
      continue;
    }
    timer.expires_after(wait);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

}  // namespace tlsbroker
