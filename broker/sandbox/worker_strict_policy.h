// SPDX-License-Identifier: Apache-2.0
// What is left of the system calls under profile = "strict": those of a request handler that takes
// connections, reads, writes, sends files and computes. Loaded together with the rules for every
// worker, which refuse more calls by their arguments.

#ifndef TLSBROKER_BROKER_SANDBOX_WORKER_STRICT_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_WORKER_STRICT_POLICY_H_

#include "absl/status/status.h"
#include "broker/sandbox/landlock.h"

namespace tlsbroker::sandbox {

// All other calls are refused with EPERM: programs and their libraries try what they can get, and
// know how to live without. Threads, but no processes; no new sockets.
absl::Status LoadStrictFilter();

// Of /usr, /lib* and /etc nothing may be executed but `program`, the interpreter that a script
// names in its first line, and the loader of dynamic programs.
absl::Status AllowOnlyProgram(Landlock& files, const std::string& program);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_WORKER_STRICT_POLICY_H_
