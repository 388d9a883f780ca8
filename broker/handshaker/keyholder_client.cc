// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/keyholder_client.h"

#include <poll.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using Clock = std::chrono::steady_clock;

// How long to wait for the keyholder before `waits_` is called, each time.
constexpr std::chrono::milliseconds kPatience{100};

absl::Status RefusedStatus(signing::Reason reason) {
  const std::string text = absl::StrCat("the keyholder refused: ", signing::ReasonName(reason));
  if (reason == signing::Reason::kRate) return absl::ResourceExhaustedError(text);
  return absl::PermissionDeniedError(text);
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> KeyholderClient::Sign(uint16_t certificate_id, uint16_t scheme,
                                                           std::span<const uint8_t> content) {
  auto signature = Ask(certificate_id, scheme, content);
  if (!signature.ok()) ++failures_;
  return signature;
}

absl::StatusOr<std::vector<uint8_t>> KeyholderClient::Ask(uint16_t certificate_id, uint16_t scheme,
                                                          std::span<const uint8_t> content) {
  if (broken()) return absl::UnavailableError("the keyholder's channel is closed");
  if (content.empty() || content.size() > signing::kMaxContent) {
    return absl::InvalidArgumentError("not the content of a handshake signature");
  }
  const uint32_t id = ++last_request_id_;
  const absl::Status exchanged =
      Exchange(signing::Encode(signing::Sign{id, certificate_id, scheme, content}));
  if (!exchanged.ok()) return Break(exchanged);
  auto reply = signing::DecodeReply(reader_.message());
  if (!reply) return Break(absl::InternalError("malformed answer of the keyholder"));
  if (std::visit([](const auto& r) { return r.request_id; }, *reply) != id) {
    return Break(absl::InternalError("the keyholder answered another request"));
  }
  if (auto* signature = std::get_if<signing::Signature>(&*reply)) {
    return std::move(signature->bytes);
  }
  return RefusedStatus(std::get<signing::Refused>(*reply).reason);
}

// Waits until the pipe can be read or written, or its other end is gone.
absl::Status KeyholderClient::Wait(int pipe, short events, Clock::time_point deadline) {
  while (Clock::now() < deadline) {
    pollfd polled{pipe, events, 0};
    const int n = poll(&polled, 1, kPatience.count());
    if (n > 0) return absl::OkStatus();
    if (n < 0 && errno != EINTR) return ErrnoStatus("poll");
    waits_();
  }
  return absl::DeadlineExceededError("the keyholder did not answer in time");
}

absl::Status KeyholderClient::Exchange(std::span<const uint8_t> request) {
  const auto deadline = Clock::now() + kTimeout;
  const std::vector<uint8_t> frame = pipes::Frame(request);
  std::span<const uint8_t> rest = frame;
  pipes::Result result;
  while ((result = pipes::Write(requests_.get(), rest)) == pipes::Result::kWouldBlock) {
    RETURN_IF_ERROR(Wait(requests_.get(), POLLOUT, deadline));
  }
  if (result != pipes::Result::kOk) return absl::UnavailableError("the keyholder is gone");
  while ((result = reader_.Next(answers_.get())) == pipes::Result::kWouldBlock) {
    RETURN_IF_ERROR(Wait(answers_.get(), POLLIN, deadline));
  }
  if (result == pipes::Result::kOk) return absl::OkStatus();
  return absl::UnavailableError("the keyholder closed the channel");
}

absl::Status KeyholderClient::Break(absl::Status why) {
  requests_.Reset();
  answers_.Reset();
  return why;
}

}  // namespace tlsbroker
