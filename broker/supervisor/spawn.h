// SPDX-License-Identifier: Apache-2.0
// Starts a program by fork and exec, with an exact table of descriptors and nothing else of the
// supervisor's: no environment, no signal mask, no ignored signal, no terminal. Runs in the
// supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SPAWN_H_
#define TLSBROKER_BROKER_SUPERVISOR_SPAWN_H_

#include <sys/types.h>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// The first descriptor besides standard input, output and error that a child gets.
inline constexpr int kChildFd = 3;

// The time from fork to exec. Another process of the user that the child becomes on the way can
// stop the child there (SIGSTOP): then the child is killed.
inline constexpr std::chrono::milliseconds kSpawnTimeout{2'000};

struct SpawnRequest {
  std::vector<std::string> arguments;    // the first is the absolute path of the program
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<int> fds;                  // borrowed; become kChildFd and so on
  int log = -1;                          // borrowed; becomes standard error, ours without it
  bool log_stdout = false;               // standard output goes where standard error goes
  bool listen_pid = false;               // adds LISTEN_PID, which only the child knows
  // Runs last before exec, in the child; it may log.
  std::function<absl::Status()> confine;
  std::chrono::milliseconds time_limit = kSpawnTimeout;
};

struct Process {
  pid_t pid = -1;
  UniqueFd pidfd;
};

// Completes when the program runs or could not be started, and then says at which step and why. The
// event loop goes on meanwhile. `request` has to live as long.
asio::awaitable<absl::StatusOr<Process>> Spawn(asio::any_io_executor executor,
                                               const SpawnRequest& request);

// Raises this process's limit of open descriptors to what it may have, for many services. Children
// start with the limit from before: programs that use select(2) rely on it.
void RaiseDescriptorLimit();

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SPAWN_H_
