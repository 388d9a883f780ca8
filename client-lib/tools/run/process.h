// The descriptors and the memory of the daemon's processes, as the calls that they are stopped in
// name them. Part of `tlsbroker run`, which has the right to them as their ancestor with the same
// user; what is read there was written by the daemon.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_PROCESS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <set>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class Processes {
 public:
  // A copy of the descriptor `fd` of a thread; invalid and errno on failure.
  UniqueFd Take(pid_t thread, int fd);

 private:
  UniqueFd OpenLeader(pid_t thread);

  std::set<pid_t> leaders_;  // that were seen
};

// 0 or an errno. All or nothing is moved.
int ReadMemory(pid_t thread, uint64_t from, void* to, size_t size);
int WriteMemory(pid_t thread, uint64_t to, const void* from, size_t size);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_PROCESS_H_
