// SPDX-License-Identifier: Apache-2.0
// Becoming the user of a role. Runs in each process of the broker while it is still root.

#ifndef TLSBROKER_BROKER_SANDBOX_USER_H_
#define TLSBROKER_BROKER_SANDBOX_USER_H_

#include <sys/types.h>

#include "absl/status/status.h"

namespace tlsbroker::sandbox {

// Real, effective and saved ids, no supplementary groups, read back afterwards, and no way back.
// Refuses uid 0: a process without capabilities that owns root's files is as good as root.
absl::Status BecomeUser(uid_t uid, gid_t gid);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_USER_H_
