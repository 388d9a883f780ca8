// SPDX-License-Identifier: Apache-2.0
// What the keyholder may do once its keys are loaded. Runs in the keyholder; assumes that whoever
// writes into its channels takes it over with the next message.

#ifndef TLSBROKER_BROKER_SANDBOX_KEYHOLDER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_KEYHOLDER_POLICY_H_

#include "absl/status/status.h"
#include "protocol/role_messages.h"

namespace tlsbroker::sandbox {

// Confines the calling process, which must have one thread, for good: from here on it reads and
// writes the descriptors that it has, and computes. Whatever else it tries ends it with SIGSYS.
// After an error the process is confined in part and must exit. Parts that the machine cannot give
// are logged as one warning.
absl::Status ConfineKeyholder(const supervision::Confinement& confinement);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_KEYHOLDER_POLICY_H_
