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

// Until there is something to read, be it the end of file.
absl::Status WaitReadable(int fd, Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd polled{fd, POLLIN, 0};
    const int n = poll(&polled, 1, std::max(0, static_cast<int>(left.count())));
    if (n > 0) return absl::OkStatus();
    if (n == 0) return absl::DeadlineExceededError("the keyholder did not answer in time");
    if (errno != EINTR) return ErrnoStatus("poll");
  }
}

absl::Status RefusedStatus(signing::Reason reason) {
  const std::string text = absl::StrCat("the keyholder refused: ", signing::ReasonName(reason));
  if (reason == signing::Reason::kRate) return absl::ResourceExhaustedError(text);
  return absl::PermissionDeniedError(text);
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> KeyholderClient::Sign(uint16_t certificate_id, uint16_t scheme,
                                                           std::span<const uint8_t> content) {
  if (broken()) return absl::UnavailableError("the keyholder's channel is closed");
  if (content.empty() || content.size() > signing::kMaxContent) {
    return absl::InvalidArgumentError("not the content of a handshake signature");
  }
  const uint32_t id = ++last_request_id_;
  const absl::Status exchanged =
      Exchange(signing::Encode(signing::Sign{id, certificate_id, scheme, content}));
  if (!exchanged.ok()) return Break(exchanged);
  auto reply = signing::DecodeReply(message_.bytes);
  if (!reply) return Break(absl::InternalError("malformed answer of the keyholder"));
  if (std::visit([](const auto& r) { return r.request_id; }, *reply) != id) {
    return Break(absl::InternalError("the keyholder answered another request"));
  }
  if (auto* signature = std::get_if<signing::Signature>(&*reply)) {
    return std::move(signature->bytes);
  }
  return RefusedStatus(std::get<signing::Refused>(*reply).reason);
}

absl::Status KeyholderClient::Exchange(std::span<const uint8_t> request) {
  const auto deadline = Clock::now() + kTimeout;
  // One request is under way at a time, so there is always room for it.
  if (channel::Send(channel_.get(), request, {}, /*dont_wait=*/true) != channel::Result::kOk) {
    return absl::UnavailableError("the keyholder takes no request");
  }
  RETURN_IF_ERROR(WaitReadable(channel_.get(), deadline));
  if (channel::Receive(channel_.get(), signing::kMaxReply, 0, message_, /*dont_wait=*/true) !=
      channel::Result::kOk) {
    return absl::UnavailableError("the keyholder closed the channel");
  }
  return absl::OkStatus();
}

absl::Status KeyholderClient::Break(absl::Status why) {
  channel_.Reset();
  return why;
}

}  // namespace tlsbroker
