// What the supervisor tells the keyholder over the control channel before Start, and the answer.
// The supervisor is trusted; that its messages are well-formed is still checked. Runs in the
// keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_
#define TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/keyholder/sign_service.h"
#include "protocol/supervision.h"

namespace tlsbroker {

struct KeyholderSnapshot {
  supervision::Confinement confinement;
  std::vector<supervision::Certificate> certificates;
  std::vector<supervision::HandshakerChannel> channels;
};

// Reads up to and including Start; the order is that of supervision.h.
absl::StatusOr<KeyholderSnapshot> ReceiveSnapshot(int control);

// Loads all keys and takes all channels. The first thing that does not work is returned for the
// supervisor, which knows the place in the configuration.
std::optional<supervision::Failed> Load(KeyholderSnapshot snapshot, SignService& service);

absl::Status Report(int control, const supervision::Message& message);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SNAPSHOT_H_
