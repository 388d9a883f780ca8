// SPDX-License-Identifier: Apache-2.0
// The descriptors and the memory of the daemon's processes, as the trapped calls name them. Part of
// `tlsbroker run`, which has the right to them as an ancestor with the same user. The daemon wrote
// what is read there.

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

  std::set<pid_t> leaders_;  // first threads that were seen
};

// Moves all or nothing. 0 or an errno.
int ReadMemory(pid_t thread, uint64_t from, void* to, size_t size);
int WriteMemory(pid_t thread, uint64_t to, const void* from, size_t size);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_PROCESS_H_
