// SPDX-License-Identifier: Apache-2.0
// What a porter may do with those who connect. Runs in the porter; assumes that one of them has
// taken it over.

#ifndef TLSBROKER_BROKER_SANDBOX_PORTER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_PORTER_POLICY_H_

#include "absl/status/status.h"
#include "protocol/role_messages.h"

namespace tlsbroker::sandbox {

// Confines the calling process, which must have one thread, for good: from here on it accepts, asks
// the kernel who has connected, and sends what it has. It can read from nobody but the supervisor.
// Whatever else it tries ends it with SIGSYS. After an error the process is confined in part and
// must exit. Parts that the machine cannot give are logged as one warning.
absl::Status ConfinePorter(const supervision::Confinement& confinement);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_PORTER_POLICY_H_
