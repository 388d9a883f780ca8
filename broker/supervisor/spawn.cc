// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asio/steady_timer.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "broker/supervisor/child_process.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/pidfd.h"
#include "broker/supervisor/signals_blocked.h"
#include "broker/support/activation.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

// Room for any child's table. The error pipe gets a number above it.
constexpr int kTableLimit = 64;

std::optional<rlimit>& OriginalDescriptorLimit() {
  static std::optional<rlimit> limit;
  return limit;
}

void ResetSignals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Moves descriptors of any numbers to 0, 1, 2, 3...: first all out of the way of the targets, then
// into place.
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

// Leaves nothing open but the table and the error pipe, which exec closes.
absl::Status BuildDescriptorTable(const SpawnRequest& request, int error_pipe) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return ErrnoStatus("opening /dev/null");
  const int log = request.log >= 0 ? request.log : STDERR_FILENO;
  std::vector<int> table = {null, request.log_stdout ? log : null, log};
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
  RETURN_IF_ERROR(BuildDescriptorTable(request, error_pipe));
  // Only now: the supervisor may have more open than the limit.
  if (OriginalDescriptorLimit() && setrlimit(RLIMIT_NOFILE, &*OriginalDescriptorLimit()) != 0)
    return ErrnoStatus("setting the limit of open descriptors");
  request.log >= 0 ? log::UseLogger(STDERR_FILENO) : log::UseDescriptor(STDERR_FILENO);
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

pid_t Fork(const SpawnRequest& request, int error_pipe) {
  const SignalsBlocked blocked;
  const pid_t pid = fork();
  if (pid == 0) RunChild(request, error_pipe);
  return pid;
}

struct Starting {
  Process process;
  UniqueFd error_pipe;  // non-blocking; it is at its end after exec
};

absl::StatusOr<Starting> Begin(const SpawnRequest& request) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe");
  Starting starting;
  starting.error_pipe = UniqueFd(ends[0]);
  UniqueFd write_end(ends[1]);
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return ErrnoStatus("fcntl");
  // Above the child's table, so that building the table leaves it alone.
  write_end = UniqueFd(fcntl(write_end.get(), F_DUPFD_CLOEXEC, kTableLimit));
  if (!write_end) return ErrnoStatus("moving the error pipe");

  starting.process.pid = Fork(request, write_end.get());
  if (starting.process.pid < 0) return ErrnoStatus("fork");
  // The number cannot have been reused: a child stays a zombie until this process waits for it.
  starting.process.pidfd = UniqueFd(pidfd_open(starting.process.pid, 0));
  if (starting.process.pidfd) return starting;
  absl::Status status = ErrnoStatus("pidfd_open");
  kill(starting.process.pid, SIGKILL);
  return status;
}

// Returns false when there is more to come.
bool ReadSome(int fd, std::string& text) {
  char buffer[512];
  const ssize_t n = read(fd, buffer, sizeof(buffer));
  if (n > 0) text.append(buffer, static_cast<size_t>(n));
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

// What the child said when it could not become the program; empty if it could.
asio::awaitable<std::string> AwaitExec(asio::any_io_executor executor, int error_pipe,
                                       std::chrono::milliseconds time_limit) {
  const auto watch = std::make_shared<Watch>(executor, error_pipe);
  asio::steady_timer deadline(executor, time_limit);
  deadline.async_wait([watch](const asio::error_code& cancelled) {
    if (!cancelled) watch->Cancel();
  });
  std::string failure;
  for (bool over = false; !over; over = ReadSome(error_pipe, failure)) {
    const bool readable = co_await watch->Readable();
    if (!readable) {
      co_return "the program was not executed within " + std::to_string(time_limit.count()) +
          " ms: somebody has stopped it, or the machine is overloaded";
    }
  }
  watch->Cancel();
  co_return failure;
}

}  // namespace

asio::awaitable<absl::StatusOr<Process>> Spawn(asio::any_io_executor executor,
                                               const SpawnRequest& request) {
  absl::StatusOr<Starting> begun = Begin(request);
  if (!begun.ok()) co_return begun.status();
  Starting starting = *std::move(begun);
  const std::string failure =
      co_await AwaitExec(executor, starting.error_pipe.get(), request.time_limit);
  if (failure.empty()) co_return std::move(starting.process);
  const auto failed = std::make_shared<ChildProcess>(executor, std::move(starting.process));
  failed->Signal(SIGKILL);
  co_await failed->Exited();
  co_return absl::InternalError(failure);
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  OriginalDescriptorLimit() = limit;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace tlsbroker::supervisor
