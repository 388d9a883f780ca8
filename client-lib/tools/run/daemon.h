// The daemon's first process: started under the traps, the runner's child. Part of `tlsbroker run`.

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
  // Returns when its traps are in place and it is about to be executed; a program that cannot be
  // says so on standard error and ends with status 127. `traps` is what LoadTraps() gave. 0 or
  // -errno.
  static int Start(const std::vector<std::string>& command, Daemon& daemon, UniqueFd& traps);

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // How it ended, as waitpid(2) tells; nullopt while it runs.
  std::optional<int> Ended();

 private:
  pid_t pid_ = -1;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_DAEMON_H_
