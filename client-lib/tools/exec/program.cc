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

namespace tlsbroker::tools {
namespace {

struct Pipe {
  UniqueFd read_end, write_end;

  int Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    read_end.Reset(ends[0]);
    write_end.Reset(ends[1]);
    return 0;
  }
};

// O_NONBLOCK is a flag of one end of a pipe, not of both.
void SetNonblocking(const UniqueFd& fd) {
  (void)fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void BecomeProgram(char* const* arguments, char* const* environment, int input,
                                int output, int errors) {
  setpgid(0, 0);
  // Should this connection's process be killed, the program has nobody to talk to.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  // Pipes were opened above 2, so no source is a target.
  if (dup2(input, 0) == 0 && dup2(output, 1) == 1 && dup2(errors, 2) == 2) {
    close_range(3, ~0U, 0);
    execve(arguments[0], arguments, environment);
  }
  dprintf(STDERR_FILENO, "%s cannot be executed: %s\n", arguments[0], strerror(errno));
  _exit(127);
}

}  // namespace

int Program::Start(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment, Program& program) {
  Pipe input, output, errors;
  for (Pipe* pipe : {&input, &output, &errors}) {
    if (const int error = pipe->Open(); error < 0) return error;
  }
  const auto arguments = Pointers(command);
  const auto variables = Pointers(environment);
  const pid_t pid = fork();
  if (pid < 0) return -errno;
  if (pid == 0) {
    BecomeProgram(arguments.data(), variables.data(), input.read_end.get(), output.write_end.get(),
                  errors.write_end.get());
  }
  setpgid(pid, pid);  // whoever of the two is first; fails once the program has been executed
  program.pid_ = pid;
  program.pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  program.input = std::move(input.write_end);
  program.output = std::move(output.read_end);
  program.errors = std::move(errors.read_end);
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
