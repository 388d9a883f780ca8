// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/child_process.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <optional>
#include <utility>

#include "broker/supervisor/pidfd.h"

namespace tlsbroker::supervisor {
namespace {

// How long to wait before trying again to reap a child that another process traces (ptrace(2)),
// perhaps one of the child's user.
constexpr std::chrono::milliseconds kReapPause{200};

// nullopt if the process has ended but cannot be reaped yet: it is a zombie that its tracer has to
// reap first.
std::optional<ExitStatus> Reap(int pidfd) {
  siginfo_t info{};
  int result;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EAGAIN) return ExitStatus{.code = -1};
  if (result != 0 || info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return ExitStatus{.code = info.si_status};
  return ExitStatus{.signal = info.si_status};
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return "status=" + std::to_string(code);
  return "signal=" + std::to_string(signal) + " (" + strsignal(signal) + ")";
}

ChildProcess::ChildProcess(const asio::any_io_executor& executor, Process process)
    : process_(std::move(process)),
      watch_(executor, process_.pidfd.get()),
      kill_timer_(executor),
      reap_timer_(executor) {}

asio::awaitable<ExitStatus> ChildProcess::Exited() {
  const auto self = shared_from_this();
  // A pidfd becomes readable when the process has ended (pidfd_open(2)).
  co_await watch_.Readable();
  std::optional<ExitStatus> status = Reap(process_.pidfd.get());
  while (!status) {
    reap_timer_.expires_after(kReapPause);
    co_await reap_timer_.async_wait(asio::use_awaitable);
    status = Reap(process_.pidfd.get());
  }
  exited_ = true;
  kill_timer_.cancel();
  watch_.Cancel();
  co_return *status;
}

void ChildProcess::Signal(int signal) const {
  if (!exited_) pidfd_send_signal(process_.pidfd.get(), signal, nullptr, 0);
}

void ChildProcess::KillAfter(std::chrono::steady_clock::duration grace) {
  if (exited_) return;
  kill_timer_.expires_after(grace);
  kill_timer_.async_wait([self = shared_from_this()](const asio::error_code& cancelled) {
    if (!cancelled) self->Signal(SIGKILL);
  });
}

}  // namespace tlsbroker::supervisor
