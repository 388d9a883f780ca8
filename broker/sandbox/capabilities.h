// SPDX-License-Identifier: Apache-2.0
// Giving up all capabilities, those that an exec could bring back included. Runs in each process of
// the broker while it is confined.

#ifndef TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_
#define TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tlsbroker::sandbox {

// Whether PR_SET_KEEPCAPS is refused. It only says what becomes of capabilities when uid 0 is left,
// and execve(2) clears it. Who has no capability, cannot get one and is not root gains nothing by
// it; but servers that root may start, such as BIND's named, set it before they look who they are,
// and end if they cannot.
enum class KeepCaps { kLocked, kNotLocked };

// Empties the bounding set and locks the securebits so that uid 0 means nothing. Needs CAP_SETPCAP,
// so it comes before the user is changed.
absl::Status ForbidGainingCapabilities(KeepCaps keep_caps = KeepCaps::kLocked);

// Empties the effective, permitted, inheritable and ambient sets, and reads all of them back.
absl::Status DropCapabilities();

// Whether it is effective, a CAP_ of <linux/capability.h>.
bool HasCapability(int capability);

// True when all five sets are empty.
absl::StatusOr<bool> AllCapabilitySetsEmpty();

// execve can no longer give anything: no setuid, no file capabilities.
absl::Status SetNoNewPrivileges();

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_CAPABILITIES_H_
