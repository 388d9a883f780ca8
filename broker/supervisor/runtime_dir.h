// The runtime directory, and the lock that keeps a second broker out of it. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_
#define TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// Creates the directory if need be. The lock is held as long as the descriptor is open.
UniqueFd LockRuntimeDir(const BrokerConfig& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_RUNTIME_DIR_H_
