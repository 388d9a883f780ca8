// SPDX-License-Identifier: Apache-2.0
// What a handshaker may do once it serves. Runs in the handshaker; assumes that a client on the
// Internet takes it over with the first byte.

#ifndef TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_

#include <functional>

#include "absl/status/status.h"
#include "protocol/role_messages.h"

namespace tlsbroker::sandbox {

// Confines the calling process, which must have one thread, for good: from here on it accepts on
// the listeners that it has, talks over the descriptors that it has, makes socketpairs, and
// computes. Whatever else it tries ends it with SIGSYS. After an error the process is confined in
// part and must exit. Parts that the machine cannot give are logged as one warning.
//
// `prepare` runs as the user that the process keeps, before the filter. It makes the event loop:
// the kernel counts what a loop watches for the user who made the loop (fs.epoll.max_user_watches),
// and root's share is the supervisor's.
absl::Status ConfineHandshaker(const supervision::Confinement& confinement,
                               const std::function<absl::Status()>& prepare);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_HANDSHAKER_POLICY_H_
