// Why a generation did not start, in terms of the configuration. Runs in the supervisor; what the
// child said is its text, not its word: an id that does not exist has no place in the file.

#ifndef TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_
#define TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_

#include "broker/supervisor/diagnostics.h"
#include "broker/supervisor/setup.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {

// False if the configuration is not to blame, as far as the child knew.
bool BlameConfig(const supervision::Failed& failed, const Config& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_
