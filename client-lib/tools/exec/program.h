// The program of one connection: started with pipes as its standard input, output and error, or
// with a socket as descriptor 3, the leader of a process group of its own.

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
  // Returns when it is executed; a program that cannot be says so on its standard error and ends
  // with status 127. -errno on failure.
  static int Start(const std::vector<std::string>& command, std::vector<std::string> environment,
                   Style style, Program& program);

  // Our ends; non-blocking.
  UniqueFd input, output, errors;
  // kSystemd: moves what goes in and comes out there.
  std::optional<SocketBridge> bridge;

  // Readable when the program has ended.
  int pidfd() const { return pidfd_.get(); }
  pid_t pid() const { return pid_; }
  // How it ended, as waitpid(2) tells; nullopt while it runs. It stays a zombie until Reap(), so
  // that its number, and that of its group, are nobody else's.
  std::optional<int> Ended() const;
  // To all of its group.
  void Signal(int signal) const;
  // Kills what is left of the group.
  void Reap();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PROGRAM_H_
