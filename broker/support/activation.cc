// SPDX-License-Identifier: Apache-2.0
#include "broker/support/activation.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

// <linux/magic.h> of Linux 6.12. Before pidfs (6.9) all pidfds share one inode.
constexpr decltype(statfs::f_type) kPidfsMagic = 0x50494446;

}  // namespace

std::vector<std::string> ReceiverVariables() {
  std::vector<std::string> variables = {"LISTEN_PID=" + std::to_string(getpid())};
  const UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  struct statfs system {};
  struct stat status {};
  if (self && fstatfs(self.get(), &system) == 0 && system.f_type == kPidfsMagic &&
      fstat(self.get(), &status) == 0) {
    variables.push_back("LISTEN_PIDFDID=" + std::to_string(status.st_ino));
  }
  return variables;
}

}  // namespace tlsbroker
