// SPDX-License-Identifier: Apache-2.0
#include "client-lib/rekey.h"

#include <new>
#include <utility>

#include "client-lib/ask.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {

using request::Status;

bool Rekeyer::Admit() {
  const auto now = std::chrono::steady_clock::now();
  if (now - received_since_ > std::chrono::seconds(1)) {
    received_since_ = now;
    received_ = 0;
  }
  return ++received_ <= kMaxPerSecond;
}

Status Rekeyer::Ask(request::Direction direction, int socket) {
  if (!possible_) return Status::kFailed;
  const std::lock_guard lock(mutex_);
  try {
    request::Answer answer;
    const Status status =
        AskOnce(request::Encode(request::Rekey{direction, token_}), socket, answer);
    if (status == Status::kDone) token_ = std::move(answer.token);
    return status;
  } catch (const std::bad_alloc&) {  // nothing is thrown across the C interface
    return Status::kFailed;
  }
}

Status Rekeyer::AskOnce(const std::vector<uint8_t>& message, int socket, request::Answer& answer) {
  const int fds[] = {socket};
  const auto received =
      client::Ask(requests_->get(), message, fds,
                  {.max_size = request::kMaxMessage,
                   .max_fds = 0,
                   .timeout = std::chrono::milliseconds(TLSBROKER_REKEY_TIMEOUT_MS)});
  if (!received) return Status::kFailed;
  auto decoded = request::DecodeAnswer(received->bytes);
  if (!decoded) return Status::kFailed;
  answer = *std::move(decoded);
  return answer.status;
}

}  // namespace tlsbroker::client
