#include "broker/supervisor/child_process.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <cerrno>
#include <utility>

#include "broker/supervisor/pidfd.h"

namespace tlsbroker::supervisor {
namespace {

ExitStatus Reap(int pidfd) {
  siginfo_t info{};
  int result;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return {.code = -1};
  if (info.si_code == CLD_EXITED) return {.code = info.si_status};
  return {.signal = info.si_status};
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return "status=" + std::to_string(code);
  return "signal=" + std::to_string(signal) + " (" + strsignal(signal) + ")";
}

ChildProcess::ChildProcess(const asio::any_io_executor& executor, Process process)
    : process_(std::move(process)), watch_(executor, process_.pidfd.get()), kill_timer_(executor) {}

asio::awaitable<ExitStatus> ChildProcess::Exited() {
  const auto self = shared_from_this();
  // A pidfd becomes readable when the process has ended (pidfd_open(2)).
  co_await watch_.Readable();
  const ExitStatus status = Reap(process_.pidfd.get());
  exited_ = true;
  kill_timer_.cancel();
  watch_.Cancel();
  co_return status;
}

void ChildProcess::Signal(int signal) const {
  if (!exited_) pidfd_send_signal(process_.pidfd.get(), signal, nullptr, 0);
}

void ChildProcess::KillAfter(std::chrono::milliseconds grace) {
  if (exited_) return;
  kill_timer_.expires_after(grace);
  kill_timer_.async_wait([self = shared_from_this()](const asio::error_code& cancelled) {
    if (!cancelled) self->Signal(SIGKILL);
  });
}

}  // namespace tlsbroker::supervisor
