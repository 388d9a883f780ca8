// SPDX-License-Identifier: Apache-2.0
#include "broker/support/control_end.h"

#include <utility>

#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/supervision.h"

namespace tlsbroker {

absl::StatusOr<std::optional<supervision::Message>> ControlEnd::Receive(bool dont_wait) {
  channel::Message raw;
  switch (channel::Receive(socket_, supervision::kMaxMessage, channel::kMaxFds, raw, dont_wait)) {
    case channel::Result::kOk:
      break;
    case channel::Result::kWouldBlock:
      return std::nullopt;
    case channel::Result::kClosed:
      return absl::UnavailableError("the supervisor is gone");
    case channel::Result::kMalformed:
      return absl::InternalError("malformed packet from the supervisor");
    case channel::Result::kError:
      return ErrnoStatus("control socket");
  }
  auto message = conversation_.Decode(raw.bytes, std::move(raw.fds));
  if (!message) return absl::InternalError("malformed message, or out of order, of the supervisor");
  return message;
}

absl::StatusOr<supervision::Message> ControlEnd::Next() {
  ASSIGN_OR_RETURN(auto message, Receive(/*dont_wait=*/false));
  if (!message) return absl::InternalError("the control socket does not wait");
  return *std::move(message);
}

absl::StatusOr<std::optional<supervision::Message>> ControlEnd::NextIfAny() {
  return Receive(/*dont_wait=*/true);
}

absl::Status WrongDescriptor() {
  return absl::InternalError("a descriptor from the supervisor is of the wrong kind");
}

}  // namespace tlsbroker
