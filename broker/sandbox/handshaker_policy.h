// What a handshaker may do once it serves. Runs in the handshaker; assumes that the Internet takes
// it over with the first byte.

#ifndef TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_

#include "absl/status/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::sandbox {

// Confines the calling process, which must have one thread, for good: from here on it accepts on
// the listeners that it has, talks over the descriptors that it has, makes socketpairs, and
// computes. Whatever else it tries ends it with SIGSYS. After an error the process is in between
// and must exit. Parts that the machine cannot give are logged as one warning.
absl::Status ConfineHandshaker(const supervision::Confinement& confinement);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_
