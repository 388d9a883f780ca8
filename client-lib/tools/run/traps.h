// SPDX-License-Identifier: Apache-2.0
// The system calls of the daemon that the runner answers: seccomp_unotify(2). Part of `tlsbroker
// run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_TRAPS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_TRAPS_H_

#include <sys/types.h>

#include <cstdint>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

// A call that waits for its answer. The daemon chose its arguments.
struct TrappedCall {
  uint64_t id = 0;
  pid_t thread = -1;
  int number = -1;  // SCMP_SYS(accept4)
  uint64_t arguments[6] = {};

  int descriptor() const { return static_cast<int>(arguments[0]); }
};

// Puts the filter on this process, in which the daemon will be executed, for good: listen, accept,
// accept4, getpeername and connect to an Internet address wait for an answer, setting
// TCP_DEFER_ACCEPT does nothing, and the calls that the runner needs for answering are refused.
// Returns -errno, or the descriptor on which the calls arrive, which is close-on-exec.
int LoadTraps();

class Traps {
 public:
  explicit Traps(UniqueFd fd);

  // Readable when a call waits; hangs up when no process with the filter is left.
  int fd() const { return fd_.get(); }
  // False when no call waits any more: its caller was killed, or interrupted by a signal.
  bool Receive(TrappedCall& call) const;

  // While this is true, the thread is the one that made the call.
  bool IsWaiting(const TrappedCall& call) const;
  // Has the kernel make the call as if it were not trapped.
  void Continue(const TrappedCall& call) const;
  void Return(const TrappedCall& call, int64_t value) const;
  void Fail(const TrappedCall& call, int error) const;
  // Returns from the call with a copy of `fd`, both or neither. 0; -ENOENT when the call waits no
  // more; another -errno, and the call still waits. When this process is stopped in the meantime,
  // the kernel takes `fd` back, forgets that the call was to return it, and the daemon's call
  // returns 0 (6.18's kernel/seccomp.c, seccomp_notify_addfd); then this function gives
  // -EINPROGRESS or -ENOENT.
  int ReturnDescriptor(const TrappedCall& call, int fd, bool close_on_exec) const;

 private:
  void Respond(const TrappedCall& call, int64_t value, int error, uint32_t flags) const;
  UniqueFd fd_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_TRAPS_H_
