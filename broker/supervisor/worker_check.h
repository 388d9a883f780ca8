// What has to be true of the machine before a worker can be started: its program and the files that
// it is to get exist. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_
#define TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

void CheckWorkers(const Config& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKER_CHECK_H_
