// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/program.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "broker/support/activation.h"
#include "client-lib/tools/pipe.h"

namespace tlsbroker::tools {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What the child of vfork(2) needs. The child shares our memory: what it changes here it changes
// for us, too.
struct Launch {
  const std::vector<std::string>& command;
  std::vector<std::string> environment;
  Style style;
  std::vector<int> table;  // of descriptors: what is to be 0, 1, 2...
  std::vector<char*> arguments{};
  std::vector<char*> variables{};
};

// Moves descriptors of any numbers to 0, 1, 2...: first all of them above these numbers, so that
// none overwrites another, then into place.
bool Place(std::vector<int>& sources) {
  for (int& fd : sources) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(sources.size()));
    if (fd < 0) return false;
  }
  int target = 0;
  for (const int fd : sources) {
    if (dup2(fd, target++) < 0) return false;
  }
  return close_range(static_cast<unsigned>(target), ~0U, 0) == 0;
}

// This runs after vfork(2), and may allocate memory all the same: a session has one thread and no
// signal handlers. What is allocated belongs to `launch`, whose owner frees it.
[[noreturn]] void BecomeProgram(Launch& launch) {
  setpgid(0, 0);
  // If this connection's process is killed the program has nobody to talk to.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  if (launch.style == Style::kSystemd) {
    for (std::string& variable : ReceiverVariables()) {
      launch.environment.push_back(std::move(variable));
    }
  }
  launch.arguments = Pointers(launch.command);
  launch.variables = Pointers(launch.environment);
  if (Place(launch.table)) {
    execve(launch.arguments[0], launch.arguments.data(), launch.variables.data());
  }
  dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", launch.arguments[0], strerror(errno));
  _exit(127);
}

// vfork(2): fork(2) would copy and fault in memory that execve(2) throws away at once.
pid_t Spawn(Launch launch) {
  const pid_t pid = vfork();  // NOLINT(bugprone-unsafe-functions)
  if (pid == 0) BecomeProgram(launch);
  return pid;
}

// The program's ends of pipes and sockets, which are closed here when this is destroyed; Open()
// gives our ends to `program`.
struct Plumbing {
  UniqueFd in, out, connection;
  Pipe errors;

  int Open(Style style, Program& program) {
    if (const int error = errors.Open(); error < 0) return error;
    return style == Style::kStdio ? OpenPipes(program) : OpenSocket(program);
  }

  std::vector<int> Table(Style style) const {
    const int log = errors.write_end.get();
    switch (style) {
      case Style::kStdio:
        return {in.get(), out.get(), log};
      case Style::kSocket:
        return {connection.get(), connection.get(), log};
      case Style::kSystemd:
        break;
    }
    return {in.get(), log, log, connection.get()};
  }

 private:
  int OpenPipes(Program& program) {
    Pipe input, output;
    if (const int error = input.Open(); error < 0) return error;
    if (const int error = output.Open(); error < 0) return error;
    in = std::move(input.read_end);
    out = std::move(output.write_end);
    program.input = std::move(input.write_end);
    program.output = std::move(output.read_end);
    return 0;
  }

  int OpenSocket(Program& program) {
    in.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!in) return -errno;
    return program.bridge.emplace().Open(program.input, program.output, connection);
  }
};

}  // namespace

int Program::Start(const std::vector<std::string>& command, std::vector<std::string> environment,
                   Style style, Program& program) {
  Plumbing plumbing;
  if (const int error = plumbing.Open(style, program); error < 0) return error;
  const pid_t pid = Spawn({command, std::move(environment), style, plumbing.Table(style)});
  if (pid < 0) return -errno;
  program.pid_ = pid;
  program.pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  program.errors = std::move(plumbing.errors.read_end);
  for (const UniqueFd* fd : {&program.input, &program.output, &program.errors}) SetNonblocking(*fd);
  if (program.pidfd_.valid()) return 0;
  const int error = -errno;
  program.Reap();
  return error;
}

std::optional<int> Program::Ended() const {
  siginfo_t info{};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return std::nullopt;
  }
  return info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0) : W_EXITCODE(0, info.si_status);
}

void Program::Signal(int signal) const { kill(-pid_, signal); }

void Program::Reap() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

}  // namespace tlsbroker::tools
