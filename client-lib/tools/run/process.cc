// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace tlsbroker::tools {
namespace {

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9

UniqueFd OpenPidfd(pid_t pid, unsigned flags) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, flags)));
}

bool IsThreadOf(pid_t leader, pid_t thread) { return syscall(SYS_tgkill, leader, thread, 0) == 0; }

pid_t LeaderByProc(pid_t thread) {
  std::ifstream status("/proc/" + std::to_string(thread) + "/status");
  for (std::string word; status >> word;) {
    pid_t leader = 0;
    if (word == "Tgid:" && status >> leader) return leader;
  }
  return -1;
}

template <typename Call>
int Move(Call call, pid_t thread, uint64_t there, void* here, size_t size) {
  iovec local{here, size};
  iovec remote{reinterpret_cast<void*>(there), size};
  const ssize_t n = call(thread, &local, 1UL, &remote, 1UL, 0UL);
  if (n < 0) return errno;
  return static_cast<size_t>(n) == size ? 0 : EFAULT;
}

}  // namespace

// Before Linux 6.9 pidfd_open(2) takes only the first thread of a process. A worker cannot look
// into /proc, but has mostly seen the first thread before: usually that is the one that listens.
UniqueFd Processes::OpenLeader(pid_t thread) {
  UniqueFd pidfd = OpenPidfd(thread, 0);
  if (pidfd) {
    leaders_.insert(thread);
    return pidfd;
  }
  pidfd = OpenPidfd(thread, kPidfdThread);
  if (pidfd) return pidfd;
  std::erase_if(leaders_, [](pid_t leader) { return kill(leader, 0) != 0 && errno == ESRCH; });
  for (const pid_t leader : leaders_) {
    if (IsThreadOf(leader, thread)) return OpenPidfd(leader, 0);
  }
  const pid_t leader = LeaderByProc(thread);
  return leader > 0 ? OpenPidfd(leader, 0) : UniqueFd();
}

UniqueFd Processes::Take(pid_t thread, int fd) {
  const UniqueFd pidfd = OpenLeader(thread);
  if (!pidfd) return {};
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)));
}

int ReadMemory(pid_t thread, uint64_t from, void* to, size_t size) {
  return Move(process_vm_readv, thread, from, to, size);
}

int WriteMemory(pid_t thread, uint64_t to, const void* from, size_t size) {
  return Move(process_vm_writev, thread, to, const_cast<void*>(from), size);
}

}  // namespace tlsbroker::tools
