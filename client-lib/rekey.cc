#include "client-lib/rekey.h"

#include <poll.h>

#include <cerrno>
#include <utility>

#include "protocol/channel.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

using Clock = std::chrono::steady_clock;
using request::Status;

bool WaitFor(int socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(left));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace

bool Rekeyer::Admit() {
  const auto now = Clock::now();
  if (now - received_since_ > std::chrono::seconds(1)) {
    received_since_ = now;
    received_ = 0;
  }
  return ++received_ <= kMaxPerSecond;
}

Status Rekeyer::Ask(request::Direction direction, int socket) {
  if (!possible_) return Status::kFailed;
  const std::lock_guard lock(mutex_);
  request::Answer answer;
  const Status status = AskOnce(request::Encode(request::Rekey{direction, token_}), socket, answer);
  if (status == Status::kDone) token_ = std::move(answer.token);
  return status;
}

Status Rekeyer::AskOnce(const std::vector<uint8_t>& message, int socket, request::Answer& answer) {
  const auto until = Clock::now() + std::chrono::milliseconds(TLSBROKER_REKEY_TIMEOUT_MS);
  auto [ours, theirs] = channel::MakePair();
  if (!ours) return Status::kFailed;
  const int fds[] = {theirs.get(), socket};
  for (;;) {
    const auto sent = channel::Send(requests_->get(), message, fds, /*dont_wait=*/true);
    if (sent == channel::Result::kOk) break;
    if (sent != channel::Result::kWouldBlock || !WaitFor(requests_->get(), POLLOUT, until)) {
      return Status::kFailed;
    }
  }
  theirs.Reset();  // the end of file tells when a handshaker dies with it
  channel::Message received;
  if (!WaitFor(ours.get(), POLLIN, until) ||
      channel::Receive(ours.get(), request::kMaxMessage, 0, received, /*dont_wait=*/true) !=
          channel::Result::kOk) {
    return Status::kFailed;
  }
  auto decoded = request::DecodeAnswer(received.bytes);
  if (!decoded) return Status::kFailed;
  answer = *std::move(decoded);
  return answer.status;
}

}  // namespace tlsbroker::client
