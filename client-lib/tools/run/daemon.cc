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

[[noreturn]] void BecomeDaemon(const std::vector<std::string>& command, int socket, pid_t runner) {
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

int Daemon::Start(const std::vector<std::string>& command, Daemon& daemon, UniqueFd& traps) {
  auto [ours, theirs] = channel::MakePair();
  if (!ours) return -errno;
  const pid_t runner = getpid();
  daemon.pid_ = fork();
  if (daemon.pid_ < 0) return -errno;
  if (daemon.pid_ == 0) BecomeDaemon(command, theirs.get(), runner);
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
  if (pid_ > 0) kill(pid_, signal);
}

std::optional<int> Daemon::Ended() {
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return status;
}

}  // namespace tlsbroker::tools
