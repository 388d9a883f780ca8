// SPDX-License-Identifier: Apache-2.0
// One tlsbroker-logger: started, watched, and replaced when it ends or hangs. Whoever writes into
// its pipes notices nothing of that. The logger of a service runs only while workers do. Runs in
// the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_LOGGER_H_
#define TLSBROKER_BROKER_SUPERVISOR_LOGGER_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/supervisor/backoff.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/role_process.h"
#include "protocol/message.h"
#include "protocol/role_messages.h"

namespace tlsbroker::supervisor {

class Logger : public std::enable_shared_from_this<Logger> {
 public:
  // The time from the end of the last worker to the end of its logger.
  static constexpr std::chrono::seconds kIdle{10};
  // How many processes may hang in pipes of one service. With more of them no logger runs until one
  // ends: by then that service is stopped.
  static constexpr size_t kMaxStuck = 8;

  struct Spec {
    std::string service;  // whose workers write; empty for the broker's own
    std::string program;
    supervision::Confinement confinement;
    // Where it writes: called for each process that is started, for a copy of its own.
    std::function<absl::StatusOr<supervision::LogOutput>()> output;
    // Where its own log goes; null for the broker's own logger, which reads that itself.
    std::shared_ptr<LogSources> log;
  };

  // `changed` is called after every change of what the functions below tell.
  Logger(const asio::any_io_executor& executor, Spec spec, std::function<void()> changed);

  // To be called once. Goes on in the event loop.
  void Start();

  const std::shared_ptr<LogSources>& sources() const { return sources_; }
  // The process; null before the first one.
  std::shared_ptr<const RoleProcess> process() const { return process_; }
  // The processes before it that the kernel cannot end.
  std::vector<std::shared_ptr<const RoleProcess>> stuck() const;
  // How many of those hang in pipes of that service.
  size_t StuckIn(std::string_view service) const;
  bool ready() const {
    return process_ && process_->ready() && !process_->lost() && !process_->told_to_end();
  }
  // Why the last process did not get ready; OK if nothing is wrong.
  absl::Status error() const;

  // Tells the process that Spec::output gives another output from now on.
  void OutputChanged();
  // Lets the process write what is there until then, and end. No other one is started.
  void Finish(std::chrono::milliseconds time);
  void Kill();
  // No process is left, after Finish() or Kill().
  bool gone() const { return gone_ && stuck_.empty(); }

  // To be called every RoleProcess::kLookPeriod.
  void Look(Clock::time_point now);

 private:
  asio::awaitable<void> Run();
  absl::Status StartProcess();
  absl::StatusOr<Snapshot> MakeSnapshot();
  bool ProcessIsGone() const;
  bool needed() const { return spec_.service.empty() || !sources_->empty(); }
  void EndIdle(Clock::time_point now);
  void EndProcess(std::chrono::milliseconds time);
  void ProcessChanged();
  void TellNames();
  void SetAside();
  bool Heard(const supervision::Message& message);

  struct Stuck {
    std::shared_ptr<RoleProcess> process;
    uint32_t pipe;
    std::string owner;
  };

  asio::any_io_executor executor_;
  const Spec spec_;
  const std::function<void()> changed_;
  const std::shared_ptr<LogSources> sources_;
  std::shared_ptr<RoleProcess> process_;
  std::vector<Stuck> stuck_;
  Event wake_;
  Backoff backoff_;
  absl::Status start_error_;
  Clock::time_point last_needed_;
  // The next process needs no pause: nobody wrote any more, or it is known in whose pipe this
  // process hangs.
  bool at_once_ = false;
  bool finishing_ = false;
  bool gone_ = false;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LOGGER_H_
