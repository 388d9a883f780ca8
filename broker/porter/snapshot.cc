// SPDX-License-Identifier: Apache-2.0
#include "broker/porter/snapshot.h"

#include <utility>
#include <variant>

#include "broker/porter/attach_point.h"
#include "broker/porter/status_point.h"
#include "broker/support/descriptors.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::porter {
namespace {

absl::StatusOr<std::unique_ptr<Visitors>> MakeVisitors(supervision::AttachPoint point) {
  if (!IsChannel(point.queue.get()) || !IsChannel(point.requests.get())) return WrongDescriptor();
  return std::make_unique<AttachPoint>(std::move(point));
}

}  // namespace

absl::StatusOr<Snapshot> ReceiveSnapshot(ControlEnd& control) {
  Snapshot snapshot;
  while (true) {
    ASSIGN_OR_RETURN(supervision::Message message, control.Next());
    if (const auto* confinement = std::get_if<supervision::Confinement>(&message)) {
      snapshot.confinement = *confinement;
    } else if (auto* attach = std::get_if<supervision::AttachPoint>(&message)) {
      ASSIGN_OR_RETURN(snapshot.visitors, MakeVisitors(std::move(*attach)));
    } else if (auto* status = std::get_if<supervision::StatusPoint>(&message)) {
      snapshot.visitors = std::make_unique<StatusPoint>(std::move(*status));
    } else if (auto* door = std::get_if<supervision::Door>(&message)) {
      snapshot.door = std::move(*door);
    } else {
      break;  // Start
    }
  }
  if (!snapshot.visitors || !snapshot.door.socket)
    return absl::InternalError(
        "message out of order from the supervisor: Start before the snapshot was complete");
  return snapshot;
}

}  // namespace tlsbroker::porter
