// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/daemon.h"

#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "broker/support/log.h"
#include "client-lib/tools/program_environment.h"
#include "client-lib/tools/run/traps.h"
#include "protocol/channel.h"

namespace tlsbroker::tools {
namespace {

constexpr int kNotExecuted = 127;

// The runner gets the descriptor before the program can make its first call.
int HandOverTraps(int socket) {
  const UniqueFd traps(LoadTraps());
  if (!traps) return traps.get();
  const std::array<uint8_t, 1> byte{};
  const int fd = traps.get();
  return channel::Send(socket, byte, {&fd, 1}) == channel::Result::kOk ? 0 : -errno;
}

[[noreturn]] void BecomeDaemon(const std::vector<std::string>& command, Daemon::Group group,
                               int socket, pid_t runner) {
  if (group == Daemon::Group::kOwn) setpgid(0, 0);
  // If the runner dies nobody answers the daemon's calls.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != runner) _exit(kNotExecuted);
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  unsetenv(log::kLevelVariable);
  TakeProgramVariables();
  if (const int error = HandOverTraps(socket); error < 0) {
    dprintf(STDERR_FILENO, "no seccomp filter for %s: %s\n", words[0], strerror(-error));
    _exit(kNotExecuted);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  execvp(words[0], words.data());
  dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", words[0], strerror(errno));
  _exit(kNotExecuted);
}

}  // namespace

int Daemon::Start(const std::vector<std::string>& command, Group group, Daemon& daemon,
                  UniqueFd& traps) {
  auto [ours, theirs] = channel::MakePair();
  if (!ours) return -errno;
  const pid_t runner = getpid();
  daemon.group_ = group;
  if (group == Group::kOwn) prctl(PR_SET_CHILD_SUBREAPER, 1);
  daemon.pid_ = fork();
  if (daemon.pid_ < 0) return -errno;
  if (daemon.pid_ == 0) BecomeDaemon(command, group, theirs.get(), runner);
  theirs.Reset();
  channel::Message message;
  const channel::Result result = channel::Receive(ours.get(), 1, 1, message);
  if (result != channel::Result::kOk || message.fds.size() != 1) {
    // The child has said why.
    while (waitpid(daemon.pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    return -EOPNOTSUPP;
  }
  traps = std::move(message.fds[0]);
  return 0;
}

void Daemon::Signal(int signal) const {
  if (pid_ > 0 && !ended_) kill(pid_, signal);
}

// The first process stays a zombie, so that its number goes on naming the group and nothing else
// until GroupEnded() is asked.
std::optional<int> Daemon::Ended() {
  siginfo_t info{};
  while (!ended_ && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0) {
    if (info.si_pid == pid_) {
      ended_ = true;
    } else {
      waitpid(info.si_pid, nullptr, WNOHANG);  // it was the daemon's, and lost its parent
    }
  }
  if (!ended_ || info.si_pid != pid_) return std::nullopt;
  if (info.si_code == CLD_EXITED) return W_EXITCODE(info.si_status, 0);
  return W_EXITCODE(0, info.si_status);
}

void Daemon::SignalGroup(int signal) const {
  if (pid_ < 0) return;
  if (group_ == Group::kRunners) return Signal(signal);
  if (!group_ended_) kill(-pid_, signal);
}

// As long as the group has a process, and be it a zombie, no other one gets its number; once it has
// none we do not use that number any more. The zombies have to be reaped for that: kill(2) finds
// them, too. A process has become ours (PR_SET_CHILD_SUBREAPER) before its parent can be waited
// for.
bool Daemon::GroupEnded() {
  if (group_ == Group::kRunners) return true;
  if (group_ended_) return true;
  while (waitpid(-pid_, nullptr, WNOHANG) > 0) {
  }
  group_ended_ = kill(-pid_, 0) != 0 && errno == ESRCH;
  return group_ended_;
}

void Daemon::KillAndWait() {
  SignalGroup(SIGKILL);
  if (group_ == Group::kRunners || group_ended_) return;
  while (waitpid(-pid_, nullptr, 0) > 0 || errno == EINTR) {
  }
}

}  // namespace tlsbroker::tools
