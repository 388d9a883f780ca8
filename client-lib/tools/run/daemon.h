// SPDX-License-Identifier: Apache-2.0
// The daemon's first process: a child of the runner, started with its calls trapped; and the
// process group that it leads, as it would as a service of systemd. Part of `tlsbroker run`.

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
  // A group of its own would take a daemon that is started by hand away from its terminal.
  enum class Group { kOwn, kRunners };

  // Returns when the traps are in place and the program is about to be executed; if that fails the
  // child says so on standard error and ends with status 127. `traps` is what LoadTraps() gave. 0
  // or -errno.
  static int Start(const std::vector<std::string>& command, Group group, Daemon& daemon,
                   UniqueFd& traps);

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // How the first process ended, as waitpid(2) tells; nullopt while it runs, and later.
  std::optional<int> Ended();
  // To all processes of the group that are left; to the first one, if the group is the runner's.
  void SignalGroup(int signal) const;
  // Whether no process of its own group is left. To be called when the first one has ended.
  bool GroupEnded();
  // SIGKILL; returns when no process of its own group is left.
  void KillAndWait();

 private:
  pid_t pid_ = -1;
  Group group_ = Group::kRunners;
  bool ended_ = false;
  bool group_ended_ = false;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_DAEMON_H_
