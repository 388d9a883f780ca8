// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/snapshot.h"

#include <utility>
#include <variant>

#include "broker/support/descriptors.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::logger {
absl::StatusOr<supervision::Confinement> ReceiveSnapshot(ControlEnd& control, Server& server) {
  supervision::Confinement confinement;
  while (true) {
    ASSIGN_OR_RETURN(supervision::Message message, control.Next());
    if (std::holds_alternative<supervision::Start>(message)) return confinement;
    if (const auto* first = std::get_if<supervision::Confinement>(&message)) {
      confinement = *first;
      continue;
    }
    const auto* source = std::get_if<supervision::LogSource>(&message);
    if (source != nullptr && !IsPipeForReading(source->pipe.get())) return WrongDescriptor();
    if (!server.Handle(std::move(message)))
      return absl::InternalError("message out of order from the supervisor");
  }
}

}  // namespace tlsbroker::logger
