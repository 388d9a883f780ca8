// SPDX-License-Identifier: Apache-2.0
// What a worker that the supervisor starts may do. Runs in the forked child of the supervisor,
// between fork and exec; trusts the configuration and nothing that the program does afterwards.

#ifndef TLSBROKER_BROKER_SANDBOX_WORKER_POLICY_H_
#define TLSBROKER_BROKER_SANDBOX_WORKER_POLICY_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/sandbox/machine.h"

namespace tlsbroker::sandbox {

enum class WorkerProfile {
  kDefault,  // refuses what could reach keys, other processes or large interfaces of the kernel
  kStrict,   // refuses all but what a request handler needs (worker_strict_policy.h)
};

// setrlimit(2), soft and hard alike; absent: as the broker was started with.
struct WorkerLimits {
  std::optional<uint64_t> memory;     // RLIMIT_DATA: private writable bytes of one process
  std::optional<uint64_t> processes;  // RLIMIT_NPROC: processes and threads of the user
  std::optional<uint64_t> files;      // RLIMIT_NOFILE: descriptors of one process
  std::optional<uint64_t> cpu;        // RLIMIT_CPU: seconds of one process, then SIGKILL
  friend bool operator==(const WorkerLimits&, const WorkerLimits&) = default;
};

struct WorkerPolicy {
  bool change_user = false;  // false only without root: uid and gid are not used
  uid_t uid = 0;
  gid_t gid = 0;
  bool network = false;
  // The program is tlsbroker-run(1), which answers the calls of the daemon that it starts: it may
  // take descriptors of its children and use their memory. The filter that it puts on them takes
  // that away again. Without `network` it and the daemon have a loopback interface that nobody else
  // has.
  bool runs_daemon = false;
  WorkerProfile profile = WorkerProfile::kDefault;
  WorkerLimits limits;
  bool core_dumps = false;  // as far as the broker may have them; a dump holds what peers have sent
  // A /tmp, a /var/tmp and a /dev/shm that nobody else has (private_tmp.h). Only with namespaces.
  bool private_tmp = false;
  std::string directory;  // to work in, absolute; empty: the root
  // Files and directories that the worker gets besides /usr, /lib*, /etc, a few devices and its own
  // program. Each has to exist. Not executable, unless it is below one of those.
  std::vector<std::string> read_only;
  std::vector<std::string> read_write;
  std::string program;                // absolute path of what will be executed
  std::vector<std::string> executes;  // and of what that program executes (not with kStrict)
};

// The parts of ConfineWorker() that this machine cannot give.
MissingParts MissingInWorker(const Machine& machine);

// Confines the calling process for good, so that only exec is left to do. Call it in a process with
// one thread. After an error the process is confined in part and must exit. Parts that the machine
// cannot give (no root, no Landlock) are logged as one warning.
absl::Status ConfineWorker(const WorkerPolicy& policy);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_WORKER_POLICY_H_
