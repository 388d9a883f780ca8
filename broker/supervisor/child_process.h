// SPDX-License-Identifier: Apache-2.0
// A running child: waits for its end by pidfd, reaps it, and sends it signals that cannot hit
// another process. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CHILD_PROCESS_H_
#define TLSBROKER_BROKER_SUPERVISOR_CHILD_PROCESS_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/spawn.h"

namespace tlsbroker::supervisor {

struct ExitStatus {
  int code = 0;  // meaningful if signal is 0
  int signal = 0;
  bool success() const { return code == 0 && signal == 0; }
  // "status=0" or "signal=11 (Segmentation fault)".
  std::string ToString() const;
};

class ChildProcess : public std::enable_shared_from_this<ChildProcess> {
 public:
  ChildProcess(const asio::any_io_executor& executor, Process process);

  pid_t pid() const { return process_.pid; }
  bool exited() const { return exited_; }

  // Completes when the process has ended, and reaps it. To be called once. If the process is
  // traced, its tracer gets it first.
  asio::awaitable<ExitStatus> Exited();

  // Does nothing once the process was reaped.
  void Signal(int signal) const;
  // SIGKILL if it still runs after `grace`.
  void KillAfter(std::chrono::steady_clock::duration grace);

 private:
  Process process_;
  Watch watch_;
  asio::steady_timer kill_timer_;
  asio::steady_timer reap_timer_;
  bool exited_ = false;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CHILD_PROCESS_H_
