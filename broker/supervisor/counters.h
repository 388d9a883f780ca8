// SPDX-License-Identifier: Apache-2.0
// Sums of what handshakers have counted. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_COUNTERS_H_
#define TLSBROKER_BROKER_SUPERVISOR_COUNTERS_H_

#include "protocol/counters.h"

namespace tlsbroker::supervisor {

void Add(supervision::Counters& sum, const supervision::Counters& part);

// Adds the counters of a process that has ended: nothing is active in it any more.
void AddEnded(supervision::Counters& sum, supervision::Counters part);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_COUNTERS_H_
