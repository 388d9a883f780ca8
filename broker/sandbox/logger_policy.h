// SPDX-License-Identifier: Apache-2.0
// What a logger may do. Runs in the logger; assumes that any line that it reads takes it over.

#ifndef TLSBROKER_BROKER_SANDBOX_LOGGER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_LOGGER_POLICY_H_

#include "absl/status/status.h"
#include "protocol/role_messages.h"

namespace tlsbroker::sandbox {

// Confines the calling process, which must have one thread, for good: it reads the pipes that it
// has and is given, and writes its output. Whatever else it tries ends it with SIGSYS. After an
// error the process is confined in part and must exit. Parts that the machine cannot give are
// logged as one warning.
absl::Status ConfineLogger(const supervision::Confinement& confinement);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_LOGGER_POLICY_H_
