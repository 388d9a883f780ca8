// SPDX-License-Identifier: Apache-2.0
// Why a generation did not start, in terms of the configuration. Runs in the supervisor; the child
// is not trusted: its text is only shown, and an id that does not exist has no place in the file.

#ifndef TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_
#define TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_

#include "broker/supervisor/diagnostics.h"
#include "broker/supervisor/setup.h"
#include "protocol/message.h"

namespace tlsbroker::supervisor {

// False if the configuration is not to blame, as far as the child knew.
bool BlameConfig(const supervision::Failed& failed, const ServiceSetup& setup,
                 Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_START_FAILURE_H_
