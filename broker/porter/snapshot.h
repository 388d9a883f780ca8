// SPDX-License-Identifier: Apache-2.0
// What the supervisor tells a porter over the control socket before Start. Runs in the porter.

#ifndef TLSBROKER_BROKER_PORTER_SNAPSHOT_H_
#define TLSBROKER_BROKER_PORTER_SNAPSHOT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "broker/porter/visitors.h"
#include "broker/support/control_end.h"
#include "protocol/porter_messages.h"
#include "protocol/role_messages.h"

namespace tlsbroker::porter {

struct Snapshot {
  supervision::Confinement confinement;
  std::unique_ptr<Visitors> visitors;
  supervision::Door door;
};

// Reads up to and including Start.
absl::StatusOr<Snapshot> ReceiveSnapshot(ControlEnd& control);

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_SNAPSHOT_H_
