// SPDX-License-Identifier: Apache-2.0
// A service's setup as the messages that its processes get, in the order of protocol/supervision.h.
// Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_
#define TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/supervisor/accounts.h"
#include "broker/support/log.h"
#include "protocol/message.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

struct ServiceSetup;

// The messages that a process is told first, without the ticket keys. Each message owns copies of
// its descriptors.
using Snapshot = std::vector<supervision::Message>;

absl::StatusOr<UniqueFd> Duplicate(int fd);

// The user that a process becomes; without root it stays who it is.
supervision::Confinement ConfinementOf(const std::optional<Account>& account);

// The environment of a child: of the supervisor's own only what says how much to log.
std::vector<std::string> ChildEnvironment(log::Level log_level);

absl::StatusOr<Snapshot> KeyholderSnapshot(const ServiceSetup& setup);

// The two ends that one side has of a signing channel.
struct SigningEnds {
  UniqueFd requests;
  UniqueFd answers;
};

// Tells a running keyholder the other ends of a new handshaker's channel.
supervision::HandshakerChannel ChannelMessage(const ServiceSetup& setup, uint16_t index,
                                              SigningEnds ends);

// What a setup says to each of its `handshakers`, which share the limits, and to the `first` of
// them: all messages but those that are nothing without descriptors. Without any, to compare.
Snapshot ContentOf(const ServiceSetup& setup, bool first, uint32_t handshakers);

// That with descriptors, and the rest. `index`: 0, 1, ... in the generation.
absl::StatusOr<Snapshot> HandshakerSnapshot(const ServiceSetup& setup, uint16_t index,
                                            uint32_t handshakers, SigningEnds signing,
                                            UniqueFd rekey_lock);

supervision::Limits LimitsMessage(const ServiceSetup& setup, uint32_t handshakers);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_
