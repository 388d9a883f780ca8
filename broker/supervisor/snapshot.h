// A setup as the messages that a generation's children get, in the order of protocol/supervision.h.
// Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_
#define TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/supervisor/setup.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {

// What a child is told, but for the ticket keys; each message owns copies of its descriptors.
using Snapshot = std::vector<supervision::Message>;

// `channels` are the keyholder's ends, one for each handshaker.
absl::StatusOr<Snapshot> KeyholderSnapshot(const Setup& setup, std::vector<UniqueFd> channels);

absl::StatusOr<Snapshot> HandshakerSnapshot(const Setup& setup, uint32_t generation, uint16_t index,
                                            UniqueFd signing_channel, UniqueFd rekey_lock);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SNAPSHOT_H_
