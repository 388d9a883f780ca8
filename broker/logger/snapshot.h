// SPDX-License-Identifier: Apache-2.0
// What the supervisor tells a logger over the control socket before it starts. Runs in the logger.

#ifndef TLSBROKER_BROKER_LOGGER_SNAPSHOT_H_
#define TLSBROKER_BROKER_LOGGER_SNAPSHOT_H_

#include "absl/status/statusor.h"
#include "broker/logger/server.h"
#include "broker/support/control_end.h"
#include "protocol/role_messages.h"

namespace tlsbroker::logger {

// Reads up to and including Start. Gives `server` the output and the senders that exist already.
absl::StatusOr<supervision::Confinement> ReceiveSnapshot(ControlEnd& control, Server& server);

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_SNAPSHOT_H_
