// SPDX-License-Identifier: Apache-2.0
// The runtime directory, and the lock that keeps a second broker out of it. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_
#define TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_

#include <sys/stat.h>

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// Everybody may connect to the sockets in it by name, but nobody else may list it: whoever lists a
// directory can hold its lock as long as he likes (iterate_dir in fs/readdir.c, which copies to
// memory of his that does not come), and then whoever makes a socket there waits.
inline constexpr mode_t kRuntimeDirMode = 0711;

// Whether LockRuntimeDir() could make what it needs. Makes nothing, and does not mind a broker that
// runs.
void CheckRuntimeDir(const BrokerConfig& config, Diagnostics& diagnostics);

// Creates the directory if need be. The lock is held as long as the descriptor is open.
UniqueFd LockRuntimeDir(const BrokerConfig& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_
