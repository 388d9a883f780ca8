// SPDX-License-Identifier: Apache-2.0
// The daemon's first process: a child of the runner, started with its calls trapped. Part of
// `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_DAEMON_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_DAEMON_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class Daemon {
 public:
  // Returns when the traps are in place and the program is about to be executed; if that fails the
  // child says so on standard error and ends with status 127. `traps` is what LoadTraps() gave. 0
  // or -errno.
  static int Start(const std::vector<std::string>& command, Daemon& daemon, UniqueFd& traps);

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // How the daemon ended, as waitpid(2) tells; nullopt while it runs.
  std::optional<int> Ended();

 private:
  pid_t pid_ = -1;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_DAEMON_H_
