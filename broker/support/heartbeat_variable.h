// SPDX-License-Identifier: Apache-2.0
// The environment variable by which the supervisor tells a worker of its own, `tlsbroker exec` or
// `tlsbroker run`, the number of the eventfd(2) for its heartbeats: 1 is added every
// supervision::kHeartbeatPeriod. Internal, like the options of these commands.

#ifndef TLSBROKER_BROKER_SUPPORT_HEARTBEAT_VARIABLE_H_
#define TLSBROKER_BROKER_SUPPORT_HEARTBEAT_VARIABLE_H_

namespace tlsbroker {

inline constexpr char kHeartbeatVariable[] = "TLSBROKER_HEARTBEAT";

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_HEARTBEAT_VARIABLE_H_
