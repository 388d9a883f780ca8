#include "broker/supervisor/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "broker/supervisor/pidfd.h"
#include "broker/support/activation.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

// Room for any child's table, below where the error pipe is put.
constexpr int kTableLimit = 64;

std::optional<rlimit>& OriginalDescriptorLimit() {
  static std::optional<rlimit> limit;
  return limit;
}

// Signals wait while this lives, so that none runs a handler of the supervisor in the child.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &saved_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { sigprocmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
};

void ResetSignals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Descriptors of any numbers to 0, 1, 2, 3...: first all out of the way of the targets, then into
// place.
absl::Status PlaceDescriptors(std::vector<int> sources) {
  for (int& fd : sources) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(sources.size()));
    if (fd < 0) return ErrnoStatus("moving a descriptor");
  }
  int target = 0;
  for (const int fd : sources) {
    if (dup2(fd, target++) < 0) return ErrnoStatus("placing a descriptor");
  }
  return absl::OkStatus();
}

// Nothing is left but the table and the error pipe, which exec closes.
absl::Status BuildDescriptorTable(const SpawnRequest& request, int error_pipe) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return ErrnoStatus("opening /dev/null");
  const int output = request.log_stdout ? STDERR_FILENO : null;
  std::vector<int> table = {null, output, STDERR_FILENO};
  table.insert(table.end(), request.fds.begin(), request.fds.end());
  const auto pipe = static_cast<unsigned>(error_pipe);
  const auto size = static_cast<unsigned>(table.size());
  RETURN_IF_ERROR(PlaceDescriptors(std::move(table)));
  if (close_range(size, pipe - 1, 0) != 0 || close_range(pipe + 1, ~0U, 0) != 0)
    return ErrnoStatus("close_range");
  return absl::OkStatus();
}

absl::Status Execute(const SpawnRequest& request, const std::vector<std::string>& environment) {
  std::vector<char*> argv;
  std::vector<char*> envp;
  for (const std::string& word : request.arguments) argv.push_back(const_cast<char*>(word.c_str()));
  for (const std::string& word : environment) envp.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  execve(argv[0], argv.data(), envp.data());
  return ErrnoStatus("executing " + request.arguments[0]);
}

// In the child. Returns only when something failed.
absl::Status BecomeProgram(const SpawnRequest& request, int error_pipe) {
  ResetSignals();
  // A session of its own: Ctrl-C on the supervisor's terminal is for the supervisor, which stops
  // its children in order.
  if (setsid() < 0) return ErrnoStatus("setsid");
  if (chdir("/") != 0) return ErrnoStatus("chdir to /");
  if (OriginalDescriptorLimit() && setrlimit(RLIMIT_NOFILE, &*OriginalDescriptorLimit()) != 0)
    return ErrnoStatus("setting the limit of open descriptors");
  RETURN_IF_ERROR(BuildDescriptorTable(request, error_pipe));
  std::vector<std::string> environment = request.environment;
  if (request.listen_pid) {
    for (std::string& variable : ReceiverVariables()) environment.push_back(std::move(variable));
  }
  if (request.confine) RETURN_IF_ERROR(request.confine());
  return Execute(request, environment);
}

[[noreturn]] void RunChild(const SpawnRequest& request, int error_pipe) {
  const absl::Status status = BecomeProgram(request, error_pipe);
  const std::string text(status.message());
  [[maybe_unused]] const ssize_t n = write(error_pipe, text.data(), text.size());
  _exit(127);
}

// Empty when the pipe was closed by exec.
std::string ReadAll(int fd) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR)) return text;
  }
}

pid_t Fork(const SpawnRequest& request, int error_pipe) {
  const SignalsBlocked blocked;
  const pid_t pid = fork();
  if (pid == 0) RunChild(request, error_pipe);
  return pid;
}

}  // namespace

absl::StatusOr<Process> Spawn(const SpawnRequest& request) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  // Above the child's table, so that building the table leaves it alone.
  write_end = UniqueFd(fcntl(write_end.get(), F_DUPFD_CLOEXEC, kTableLimit));
  if (!write_end) return ErrnoStatus("moving the error pipe");

  Process process;
  process.pid = Fork(request, write_end.get());
  if (process.pid < 0) return ErrnoStatus("fork");
  write_end.Reset();
  // The number cannot have been reused: a child stays a zombie until this process waits for it.
  process.pidfd = UniqueFd(pidfd_open(process.pid, 0));
  const int pidfd_errno = errno;
  std::string failure = ReadAll(read_end.get());
  if (!process.pidfd) {
    kill(process.pid, SIGKILL);
    failure = std::string("pidfd_open: ") + std::strerror(pidfd_errno);
  }
  if (failure.empty()) return process;
  while (waitpid(process.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return absl::InternalError(failure);
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  OriginalDescriptorLimit() = limit;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace tlsbroker::supervisor
