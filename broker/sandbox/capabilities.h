// Giving up all capabilities, those that an exec could bring back included. Runs in each process of
// the broker while it is confined.

#ifndef TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_
#define TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tlsbroker::sandbox {

// Empties the bounding set and locks the securebits so that uid 0 means nothing. Needs CAP_SETPCAP,
// so it comes before the user is changed.
absl::Status ForbidGainingCapabilities();

// Empties the effective, permitted, inheritable and ambient sets, and reads all of them back.
absl::Status DropCapabilities();

// True when all five sets are empty.
absl::StatusOr<bool> AllCapabilitySetsEmpty();

// execve can no longer give anything: no setuid, no file capabilities.
absl::Status SetNoNewPrivileges();

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_
