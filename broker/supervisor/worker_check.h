// SPDX-License-Identifier: Apache-2.0
// What has to be true of the machine before a worker can be started: its program and the files that
// it is to get exist. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_
#define TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_

#include "broker/supervisor/accounts.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

// Checks the users who may attach, or as whom workers are started.
void CheckAttachment(const Config& config, Diagnostics& diagnostics);

// Checks that programs and paths of workers exist, and that the programs can be executed by their
// users. Not for a broker that serves: the files can be
// the worker's own, who removes them, or makes whoever looks wait, and so would keep all services
// from starting. There each start of a worker looks for itself, in its own process.
void CheckWorkerFiles(const Config& config, const Accounts& accounts, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_
