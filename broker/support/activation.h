// SPDX-License-Identifier: Apache-2.0
// The part of systemd's socket activation (sd_listen_fds(3)) that only the receiving process knows.
// Used by the supervisor and by `tlsbroker exec`, between fork and exec.

#ifndef TLSBROKER_BROKER_SUPPORT_ACTIVATION_H_
#define TLSBROKER_BROKER_SUPPORT_ACTIVATION_H_

#include <string>
#include <vector>

namespace tlsbroker {

// Who LISTEN_FDS is meant for: "LISTEN_PID=..." of the calling process, and "LISTEN_PIDFDID=..."
// (systemd 258) where the kernel has a number for a process that is never used again.
std::vector<std::string> ReceiverVariables();

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_ACTIVATION_H_
