// SPDX-License-Identifier: Apache-2.0
// What the kernel says of a process, to tell one that hangs from one that waits for a processor.
// Reading it takes no lock that a hung process may hold. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PROCESS_STATE_H_
#define TLSBROKER_BROKER_SUPERVISOR_PROCESS_STATE_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string_view>

namespace tlsbroker::supervisor {

struct ProcessState {
  static constexpr char kUnknown = '?';
  char state = kUnknown;              // R, S, D, T, t, Z: proc_pid_stat(5)
  std::chrono::nanoseconds cpu_time;  // user and system
  friend bool operator==(const ProcessState&, const ProcessState&) = default;
};

// nullopt when there is no such process. The state is in /proc, where it can be hidden (hidepid= in
// proc(5), ProtectProc= in systemd.exec(5)) from a supervisor that is not root. The time never is,
// clock_getcpuclockid(3).
std::optional<ProcessState> ReadProcessState(pid_t pid);

// The state in the content of /proc/PID/stat.
char ParseState(std::string_view stat);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PROCESS_STATE_H_
