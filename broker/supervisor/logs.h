// SPDX-License-Identifier: Apache-2.0
// The broker's log: the logger that everything goes through, and one for the workers of each
// service (broker/README.md, "The log"). Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_LOGS_H_
#define TLSBROKER_BROKER_SUPERVISOR_LOGS_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/log_output.h"
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/logger.h"

namespace tlsbroker::supervisor {

class Logs {
 public:
  Logs(const asio::any_io_executor& executor, std::string program);
  ~Logs();

  // For the loggers that are started from now on.
  void SetConfinement(supervision::Confinement confinement) { confinement_ = confinement; }

  // Starts the broker's own logger, and sends this process' lines through it once it is ready.
  asio::awaitable<absl::Status> Start();

  // The pipes for the processes of the broker.
  const std::shared_ptr<LogSources>& sources() const { return broker_->sources(); }
  // The pipes for the workers of that service. Their logger ends when nobody holds this any more.
  absl::StatusOr<std::shared_ptr<LogSources>> ForService(const std::string& service);

  // Opens the log file again, after SIGUSR1.
  void Reopen();
  // Looks for loggers that hang, and pipes at their end. To be called every
  // RoleProcess::kLookPeriod.
  void Look(Clock::time_point now);

  std::vector<std::shared_ptr<const RoleProcess>> processes() const;  // those that are there
  // How many loggers hang in the kernel because somebody has a pipe of that service.
  size_t StuckIn(std::string_view service) const;

  // Both are for the end, and take no more than a second together, whether or not anybody reads the
  // log. This one comes when the workers are gone.
  asio::awaitable<void> FinishServices();
  // This one comes last of all: afterwards lines of this process go to standard error.
  asio::awaitable<void> FinishBroker();

 private:
  void BrokerChanged();
  // Waits until the condition holds, or that long.
  template <typename Condition>
  asio::awaitable<void> Until(Condition condition, std::chrono::milliseconds time);

  asio::any_io_executor executor_;
  const std::string program_;
  supervision::Confinement confinement_;
  LogOutput output_;
  std::shared_ptr<Logger> broker_;
  std::unique_ptr<LogPipe> own_;  // this process'
  std::map<std::string, std::shared_ptr<Logger>> services_;
  std::vector<std::shared_ptr<Logger>> ending_;  // of services
  Event changed_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LOGS_H_
