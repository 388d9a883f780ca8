// SPDX-License-Identifier: Apache-2.0
// What the supervisor keeps of root's privileges: what it needs to open key files and listeners, to
// start children who become somebody else and confine themselves, and to signal them. Runs in the
// supervisor at its start.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PRIVILEGES_H_
#define TLSBROKER_BROKER_SUPERVISOR_PRIVILEGES_H_

#include <string>

#include "absl/status/status.h"

namespace tlsbroker::supervisor {

// Gives up the rest, for this process and its children alike, before anything is started; without
// root there is nothing to give up. From here on neither core dumps nor other processes of the same
// user get at this process's memory, which holds the ticket keys.
absl::Status ReducePrivileges();

// Whether this process could read the file without root's power over the files of others, which a
// broker that root has started by hand keeps, and one under tlsbroker.service never had.
bool CanReadWithoutPower(const std::string& path);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PRIVILEGES_H_
