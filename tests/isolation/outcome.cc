// SPDX-License-Identifier: Apache-2.0
#include "tests/isolation/outcome.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace tlsbroker {
namespace {

constexpr int kTimeLimitMs = 10'000;

bool EndsInTime(pid_t child) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  pollfd entry = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, kTimeLimitMs) == 1;
}

}  // namespace

void PrintTo(const Outcome& outcome, std::ostream* out) {
  if (outcome.signal != 0) {
    *out << "killed by SIG" << sigabbrev_np(outcome.signal);
  } else if (outcome.error == kNotStarted) {
    *out << "could not be started";
  } else if (outcome.error != 0) {
    *out << "refused with " << strerrorname_np(outcome.error);
  } else {
    *out << "succeeded";
  }
}

bool DropRoot() {
  if (geteuid() != 0) return true;
  constexpr uid_t kId = kUnprivilegedUser;
  return setgroups(0, nullptr) == 0 && setresgid(kId, kId, kId) == 0 &&
         setresuid(kId, kId, kId) == 0;
}

pid_t StartChild(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  _exit(body());
}

Outcome Wait(pid_t child) {
  if (child < 0) return Refused(kNotStarted);
  if (!EndsInTime(child)) kill(child, SIGKILL);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return Refused(kNotStarted);
  if (WIFSIGNALED(status)) return Killed(WTERMSIG(status));
  return Refused(WEXITSTATUS(status));
}

std::string StatusField(pid_t pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name + ":")) continue;
    const size_t first = line.find_first_not_of(" \t", name.size() + 1);
    if (first == std::string::npos) return "";
    return line.substr(first, line.find_last_not_of(" \t") + 1 - first);
  }
  return "missing";
}

Announcement::Announcement() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, 0) != 0) perror("pipe2");
  read_.Reset(ends[0]);
  write_.Reset(ends[1]);
}

void Announcement::Announce() const { (void)!write(write_.get(), "!", 1); }

bool Announcement::Await() {
  write_.Reset();
  char byte;
  return read(read_.get(), &byte, 1) == 1;
}

void Stay() {
  for (;;) {
    // pause(2) would do, but the allow lists do not have it, since no role needs it.
    const timespec long_time = {.tv_sec = 3600, .tv_nsec = 0};
    nanosleep(&long_time, nullptr);
  }
}

void End(pid_t child) {
  kill(child, SIGKILL);
  (void)Wait(child);
}

void CallByInt80() {
#if defined(__x86_64__)
  signal(SIGSEGV, SIG_DFL);  // a sanitizer would end this in another way
  int result = 20;           // getpid
  asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
#endif
}

Outcome KilledByInt80() {
  static const Outcome free = RunChild([] {
    CallByInt80();
    return 0;
  });
  // The guests' kernels do have 32-bit calls.
  if (free == kSucceeded || getenv("TLSBROKER_EXPECT") != nullptr) return Killed(SIGSYS);
  return free;
}

}  // namespace tlsbroker
