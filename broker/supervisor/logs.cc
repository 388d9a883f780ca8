// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/logs.h"

#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/logger_messages.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kReadyTimeout{20'000};
constexpr milliseconds kServicesFinish{400};
constexpr milliseconds kBrokerFinish{500};
// How long it may take to see that the last of them has ended.
constexpr milliseconds kReap{50};

}  // namespace

Logs::Logs(const asio::any_io_executor& executor, std::string program)
    : executor_(executor), program_(std::move(program)), changed_(executor) {
  log::UseDescriptor(output_.fd());
}

Logs::~Logs() { log::UseDescriptor(STDERR_FILENO); }

template <typename Condition>
asio::awaitable<void> Logs::Until(Condition condition, milliseconds time) {
  const Clock::time_point deadline = Clock::now() + time;
  while (!condition() && Clock::now() < deadline) co_await changed_.Wait(deadline);
}

asio::awaitable<absl::Status> Logs::Start() {
  broker_ = std::make_shared<Logger>(executor_,
                                     Logger::Spec{.service = "",
                                                  .program = program_,
                                                  .confinement = confinement_,
                                                  .output = [this] { return output_.Message(); },
                                                  .log = nullptr},
                                     [this] { BrokerChanged(); });
  auto own = broker_->sources()->Open(LogSources::Kind::kRole, "");
  if (!own.ok()) co_return own.status();
  own_ = *std::move(own);
  own_->Name("tlsbrokerd: ");
  broker_->Start();
  const auto decided = [this] { return broker_->ready() || !broker_->error().ok(); };
  co_await Until(decided, kReadyTimeout);
  if (broker_->ready()) co_return absl::OkStatus();
  const absl::Status error = broker_->error();
  broker_->Kill();
  if (!error.ok()) co_return error;
  co_return absl::DeadlineExceededError("it did not become ready in time");
}

// While no logger runs, this process writes its own lines itself: perhaps they say why no logger
// runs.
void Logs::BrokerChanged() {
  if (broker_->ready() && own_) {
    log::UseLogger(own_->writing());
  } else {
    log::UseDescriptor(output_.fd());
  }
  changed_.Notify();
}

absl::StatusOr<std::shared_ptr<LogSources>> Logs::ForService(const std::string& service) {
  if (const auto known = services_.find(service); known != services_.end())
    return known->second->sources();
  ASSIGN_OR_RETURN(std::shared_ptr<LogPipe> output,
                   sources()->Open(LogSources::Kind::kWorkers, service));
  output->Name("worker." + service);
  const auto copy = [output]() -> absl::StatusOr<supervision::LogOutput> {
    UniqueFd fd(fcntl(output->writing(), F_DUPFD_CLOEXEC, 0));
    if (!fd) return ErrnoStatus("copying the pipe to the log");
    return supervision::LogOutput{.priorities = true, .socket = false, .fd = std::move(fd)};
  };
  const auto logger = std::make_shared<Logger>(executor_,
                                               Logger::Spec{.service = service,
                                                            .program = program_,
                                                            .confinement = confinement_,
                                                            .output = copy,
                                                            .log = sources()},
                                               [this] { changed_.Notify(); });
  logger->Start();
  services_[service] = logger;
  return logger->sources();
}

void Logs::Reopen() {
  if (output_.path().empty()) return;
  const absl::Status reopened = output_.Reopen();
  if (!reopened.ok()) {
    log::Error("the log cannot go to its new output; it goes on to the one from before: " +
               std::string(reopened.message()));
    return;
  }
  if (broker_) broker_->OutputChanged();
  if (!broker_ || !broker_->ready()) log::UseDescriptor(output_.fd());
  log::Notice("reopened the log");
}

void Logs::Look(Clock::time_point now) {
  if (broker_) broker_->Look(now);
  for (auto service = services_.begin(); service != services_.end();) {
    const auto next = std::next(service);
    service->second->Look(now);
    if (service->second->sources().use_count() == 1) {
      service->second->Finish(kServicesFinish);
      ending_.push_back(std::move(service->second));
      services_.erase(service);
    }
    service = next;
  }
  for (const auto& logger : ending_) logger->Look(now);
  std::erase_if(ending_, [](const auto& logger) { return logger->gone(); });
}

std::vector<std::shared_ptr<const RoleProcess>> Logs::processes() const {
  std::vector<std::shared_ptr<const RoleProcess>> list;
  const auto add_one = [&list](const std::shared_ptr<const RoleProcess>& process) {
    if (!process || process->pid() == 0) return;
    if (!process->gone() || process->left_behind()) list.push_back(process);
  };
  const auto add = [&](const std::shared_ptr<Logger>& logger) {
    if (!logger) return;
    add_one(logger->process());
    for (const auto& process : logger->stuck()) add_one(process);
  };
  add(broker_);
  for (const auto& [service, logger] : services_) add(logger);
  for (const auto& logger : ending_) add(logger);
  return list;
}

size_t Logs::StuckIn(std::string_view service) const {
  size_t count = broker_ ? broker_->StuckIn(service) : 0;
  for (const auto& [name, logger] : services_) count += logger->StuckIn(service);
  for (const auto& logger : ending_) count += logger->StuckIn(service);
  return count;
}

asio::awaitable<void> Logs::FinishServices() {
  for (auto& [service, logger] : services_) {
    logger->Finish(kServicesFinish);
    ending_.push_back(std::move(logger));
  }
  services_.clear();
  const auto gone = [this] {
    return std::ranges::all_of(ending_, [](const auto& logger) { return logger->gone(); });
  };
  co_await Until(gone, kServicesFinish + kReap);
  for (const auto& logger : ending_) logger->Kill();
}

asio::awaitable<void> Logs::FinishBroker() {
  if (!broker_) co_return;
  const bool was_ready = broker_->ready();
  own_.reset();
  log::UseDescriptor(output_.fd());
  log::SetLevel(log::Level::kError);  // that a logger ends is no news
  broker_->Finish(kBrokerFinish);
  if (was_ready) co_await Until([this] { return broker_->gone(); }, kBrokerFinish + kReap);
  broker_->Kill();
}

}  // namespace tlsbroker::supervisor
