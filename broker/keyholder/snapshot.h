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
#include "broker/support/openssl_ptr.h"
#include "protocol/role_messages.h"
#include "protocol/service_messages.h"

namespace tlsbroker {

struct KeyholderSnapshot {
  // `uri_key` is what LoadFromOutside() gets if the key has a URI.
  template <typename Message>
  struct WithKey {
    Message message;
    absl::StatusOr<EvpPkeyPtr> uri_key = absl::UnavailableError("the key has no URI");
  };

  supervision::Confinement confinement;
  std::vector<WithKey<supervision::Certificate>> certificates;
  std::vector<WithKey<supervision::Inspect>> inspections;
  SystemAuthorities trusted;  // for inspections
  std::vector<supervision::HandshakerChannel> channels;
};

// Reads up to and including Start.
absl::StatusOr<KeyholderSnapshot> ReceiveSnapshot(ControlEnd& control);

// What has to be done before the process is confined: loads what OpenSSL needs of the file system,
// and reads keys that have no file but a URI, with their passphrases, into the snapshot. If such a
// key cannot be read, Load() says so.
absl::Status LoadFromOutside(KeyholderSnapshot& snapshot);

// Loads all keys, looks at what it is to look at, and takes all channels. Returns the first thing
// that does not work for the supervisor, which knows the place in the configuration. No parser sees
// a byte of a chain or of a key's file before the process is confined; only what serves a URI reads
// what is behind that before.
std::optional<supervision::Failed> Load(KeyholderSnapshot snapshot, SignService& service);

// Takes what comes after Start: the channel of a further handshaker. False at the end of file.
absl::StatusOr<bool> FollowSupervisor(ControlEnd& control, SignService& service);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_
