// SPDX-License-Identifier: Apache-2.0
// What the workers of a service are, in terms of its configuration. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_WORKER_SPEC_H_
#define TLSBROKER_BROKER_SUPERVISOR_WORKER_SPEC_H_

#include "broker/supervisor/programs.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/workers.h"

namespace tlsbroker::supervisor {

// For a service that has a worker.
WorkerSpec WorkerSpecOf(const ServiceSetup& setup, const Programs& programs);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKER_SPEC_H_
