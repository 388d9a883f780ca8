// SPDX-License-Identifier: Apache-2.0
// The program of one connection: started with pipes as its standard input, output and error, or
// with a socket as the first two or as descriptor 3, the leader of a process group of its own.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PROGRAM_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PROGRAM_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "client-lib/tools/exec/options.h"
#include "client-lib/tools/exec/socket_bridge.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class Program {
 public:
  // Returns 0 when the child has called execve(2); if that failed the child says so on the
  // program's standard error and ends with status 127. -errno: there is no child.
  static int Start(const std::vector<std::string>& command, std::vector<std::string> environment,
                   Style style, Program& program);

  // Our ends; non-blocking.
  UniqueFd input, output, errors;
  // Not with kStdio: moves the bytes between these pipes and the program's socket.
  std::optional<SocketBridge> bridge;

  // Readable when the program has ended.
  int pidfd() const { return pidfd_.get(); }
  pid_t pid() const { return pid_; }
  // How the program ended, as waitpid(2) tells; nullopt while it runs. It stays a zombie until
  // Reap(), so that no other process has its number or its group's.
  std::optional<int> Ended() const;
  // Sends the signal to all of the program's group.
  void Signal(int signal) const;
  // Kills what is left of the group and takes the program's exit status.
  void Reap();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PROGRAM_H_
