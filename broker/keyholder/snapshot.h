// SPDX-License-Identifier: Apache-2.0
// What the supervisor tells the keyholder over the control channel before Start, and the answer.
// Runs in the keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_
#define TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/keyholder/sign_service.h"
#include "broker/keyholder/system_authorities.h"
#include "broker/support/control_end.h"
#include "protocol/role_messages.h"
#include "protocol/service_messages.h"

namespace tlsbroker {

struct KeyholderSnapshot {
  supervision::Confinement confinement;
  std::vector<supervision::Certificate> certificates;
  std::vector<supervision::Inspect> inspections;
  SystemAuthorities trusted;  // for inspections
  std::vector<supervision::HandshakerChannel> channels;
};

// Reads up to and including Start.
absl::StatusOr<KeyholderSnapshot> ReceiveSnapshot(ControlEnd& control);

// What has to be done before the process is confined: loads what OpenSSL needs of the file system,
// and keys that have no file but a URI. What was loaded leaves the snapshot. This and Load() return
// the first thing that does not work for the supervisor, which knows the place in the
// configuration.
std::optional<supervision::Failed> LoadFromOutside(KeyholderSnapshot& snapshot,
                                                   SignService& service);

// Loads all other keys, looks at what it is to look at, and takes all channels. No parser sees a
// byte of a file before the process is confined.
std::optional<supervision::Failed> Load(KeyholderSnapshot snapshot, SignService& service);

// Takes what comes after Start: the channel of a further handshaker. False at the end of file.
absl::StatusOr<bool> FollowSupervisor(ControlEnd& control, SignService& service);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_
