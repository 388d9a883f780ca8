// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/supervisor.h"

#include <signal.h>
#include <sysexits.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"
#include "broker/supervisor/elsewhere.h"
#include "broker/supervisor/inspections.h"
#include "broker/supervisor/snapshot.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

// How long the kernel may take to end the processes after SIGKILL.
constexpr milliseconds kReapTimeout{5'000};

// How long a stop may take beyond 'drain_timeout': workers have several seconds to end, each
// process has until it is reaped, and the log has one second.
constexpr milliseconds kEndMargin{30'000};
// How much more time a start gets from the service manager each time that it says why it waits:
// every five seconds, since the text says for how long. A reload meanwhile may take a minute.
constexpr std::chrono::seconds kLonger{90};
// A start does not take longer: at a boot others wait for it, and a unit that is starting cannot be
// reloaded with a better configuration.
constexpr std::chrono::seconds kLongestStart{60};
// How often a stop asks for more time: connections of an earlier configuration may have longer.
constexpr std::chrono::seconds kAskAgain{5};

// Reports what a reload cannot change.
void CheckUnchanged(const Setup& old_setup, const Setup& new_setup, Diagnostics& diagnostics) {
  const auto& old_dir = old_setup.config.broker.runtime_dir;
  const auto& new_dir = new_setup.config.broker.runtime_dir;
  if (old_dir.value == new_dir.value) return;
  diagnostics.Error(new_dir.position, "'runtime_dir' was \"" + old_dir.value + "\" at the start",
                    "restart the broker to change it");
}

}  // namespace

Supervisor::Supervisor(Setup setup, InheritedSockets inherited)
    : signals_(io_, SIGHUP, SIGTERM, SIGINT),
      wake_(io_.get_executor()),
      programs_(FindPrograms()),
      logs_(io_.get_executor(), programs_.logger),
      inherited_(std::move(inherited)),
      setup_(std::make_shared<const Setup>(std::move(setup))) {
  signals_.add(SIGQUIT);
  signals_.add(SIGUSR1);
}

int Supervisor::Run() {
  asio::co_spawn(io_, FollowSignals(), EndsProcess());
  if (notifier_.watchdog_period()) asio::co_spawn(io_, FeedWatchdog(), EndsProcess());
  asio::co_spawn(io_, LookAtProcesses(), EndsProcess());
  asio::co_spawn(io_, Live(), EndsProcess());
  io_.run();
  return exit_status_;
}

asio::awaitable<void> Supervisor::FollowSignals() {
  for (;;) {
    asio::error_code error;
    const int signal =
        co_await signals_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    if (signal == SIGHUP) reload_ = true;
    if (signal == SIGTERM || signal == SIGINT) stop_ = std::max(stop_, Stop::kDrain);
    if (signal == SIGQUIT) stop_ = Stop::kNow;
    if (signal == SIGUSR1) logs_.Reopen();
    wake_.Notify();
  }
}

asio::awaitable<void> Supervisor::FeedWatchdog() {
  Event never(io_.get_executor());
  for (;;) {
    notifier_.KeepAlive();
    const Clock::time_point next =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(*notifier_.watchdog_period());
    co_await never.Wait(next);
  }
}

asio::awaitable<void> Supervisor::LookAtProcesses() {
  Event never(io_.get_executor());
  for (;;) {
    const Clock::time_point now = Clock::now();
    for (const auto& service : AllServices()) service->Look(now);
    if (status_socket_) status_socket_->porter()->Look(now);
    logs_.Look(now);
    ReapErrands();
    TellManager();
    co_await never.Wait(now + RoleProcess::kLookPeriod);
  }
}

asio::awaitable<void> Supervisor::Live() {
  logs_.SetConfinement(ConfinementOf(setup_->account));
  const absl::Status log = co_await logs_.Start();
  if (!log.ok()) {
    log::Error("the log does not start: " + log::Printable(std::string(log.message())));
    exit_status_ = EXIT_FAILURE;
    io_.stop();
    co_return;
  }
  OpenStatusSocket();
  const bool good = co_await LookAtCertificates();
  bool started = false;
  if (good) started = co_await Introduce(setup_);
  if (started) {
    serves_ = true;
    TellManager();
    co_await Serve();
  } else if (!stopping()) {
    exit_status_ = start_failure_;
    stop_ = Stop::kNow;
  }
  co_await End();
  io_.stop();
}

// At the start.
asio::awaitable<bool> Supervisor::LookAtCertificates() {
  Diagnostics diagnostics(setup_->file);
  co_await Inspect(*setup_, nullptr, diagnostics);
  for (const std::string& warning : diagnostics.warnings()) log::Warning(warning);
  if (!diagnostics.failed()) co_return !stopping();
  start_failure_ = EX_CONFIG;
  Fail(diagnostics.errors());
  co_return false;
}

asio::awaitable<void> Supervisor::Inspect(const Setup& setup, const Setup* previous,
                                          Diagnostics& diagnostics) {
  const InspectionContext context{
      .programs = programs_, .log = logs_.sources(), .give_up = [this] { return stopping(); }};
  const asio::any_io_executor executor = io_.get_executor();
  const std::vector<std::string> lines =
      co_await InspectCertificates(executor, setup, previous, context, diagnostics);
  for (const std::string& line : lines) log::Info(line);
}

asio::awaitable<void> Supervisor::Serve() {
  while (!stopping()) {
    Sweep();
    if (std::exchange(reload_, false)) {
      co_await Reload();
    } else {
      co_await wake_.Wait();
    }
  }
}

template <typename Condition>
asio::awaitable<void> Supervisor::Until(Condition condition, Clock::time_point deadline) {
  while (!condition() && Clock::now() < deadline) co_await wake_.Wait(deadline);
}

asio::awaitable<bool> Supervisor::Introduce(std::shared_ptr<const Setup> setup) {
  Services services;
  for (const auto& service : setup->services) {
    const auto known = services_.find(service->name());
    services[service->name()] =
        known != services_.end()
            ? known->second
            : std::make_shared<ServiceBroker>(io_.get_executor(), service->name(), programs_, logs_,
                                              [this] { wake_.Notify(); });
    services[service->name()]->Propose(service);
  }
  introduced_ = services;
  const bool good = co_await AwaitProposals(services);
  introduced_.clear();
  if (good) {
    co_await Adopt(setup, services);
    co_return true;
  }
  for (const auto& [name, service] : services) {
    service->Withdraw();
    if (services_.contains(name)) continue;
    service->End(/*removed=*/true);
    old_services_.push_back(service);
  }
  co_return false;
}

asio::awaitable<bool> Supervisor::AwaitProposals(const Services& services) {
  using Proposal = ServiceBroker::Proposal;
  const auto any = [&services](Proposal state) {
    return std::ranges::any_of(
        services, [state](const auto& entry) { return entry.second->proposal() == state; });
  };
  // Each proposal is decided some time: its generation is ready, or has failed or taken too long.
  const auto decided = [&] {
    return stopping() || any(Proposal::kFailed) || !any(Proposal::kPending);
  };
  co_await Until(decided);
  if (stopping()) {
    failure_ = {"the broker is stopping"};
    co_return false;
  }
  std::vector<std::string> errors;
  start_failure_ = EXIT_FAILURE;
  for (const auto& [name, service] : services) {
    if (service->proposal() != Proposal::kFailed) continue;
    bool blames_config = false;
    for (std::string& line : service->ProposalErrors(blames_config)) {
      // A certificate that several services use is one fault.
      if (!std::ranges::count(errors, line)) errors.push_back(std::move(line));
    }
    if (blames_config) start_failure_ = EX_CONFIG;
  }
  if (errors.empty()) co_return true;
  Fail(std::move(errors));
  co_return false;
}

// Taken from the services, since a service may have a newer queue than its configuration brought.
Setup Supervisor::InForce() const {
  Setup setup{
      .file = setup_->file, .config = setup_->config, .account = setup_->account, .services = {}};
  for (const auto& [name, service] : services_) setup.services.push_back(service->setup());
  return setup;
}

void Supervisor::Fail(std::vector<std::string> errors) {
  failure_ = std::move(errors);
  for (const std::string& error : failure_) log::Error(error);
}

asio::awaitable<void> Supervisor::Adopt(std::shared_ptr<const Setup> setup, Services services) {
  log::SetLevel(setup->config.broker.log_level);
  logs_.SetConfinement(ConfinementOf(setup->account));
  started_services_.clear();
  removed_services_.clear();
  for (const auto& [name, service] : services) {
    if (service->Adopt()) started_services_.push_back(name);
  }
  for (const auto& [name, service] : services_) {
    if (services.contains(name)) continue;
    removed_services_.push_back(name);
    service->End(/*removed=*/true);
    old_services_.push_back(service);
  }
  services_ = std::move(services);
  setup_ = std::move(setup);  // closes the listeners of the setup before
  for (const auto& [name, service] : services_) service->StartListening();
  if (status_socket_) status_socket_->porter()->Restart(PorterStartOf(*setup_));
  const auto settled = [this] {
    const bool status = !status_socket_ || status_socket_->porter()->settled();
    return stopping() || (status && All(&ServiceBroker::settled));
  };
  co_await Until(settled);
  log::Notice("in force" + log::Field("config", setup_->file) +
              log::Field("files", std::to_string(setup_->config.files.size())) +
              log::Field("services", std::to_string(services_.size())) +
              log::Field("started", absl::StrJoin(started_services_, ",")) +
              log::Field("removed", absl::StrJoin(removed_services_, ",")));
}

std::string Supervisor::StatusLine() const {
  if (services_.empty()) return "serving nothing: the configuration has no service";
  return "serving";
}

asio::awaitable<void> Supervisor::Reload() {
  reloading_ = true;
  if (start_over_) notifier_.Reloading();
  const uint64_t number = ++reloads_;
  log::Notice("reloading " + setup_->file);
  failure_.clear();
  const bool reloaded = co_await TryReload();
  last_reload_ = {number, std::chrono::system_clock::now(), failure_, {}, {}};
  if (reloaded) {
    last_reload_->started = started_services_;
    last_reload_->removed = removed_services_;
  }
  if (!reloaded && !stopping())
    log::Error("reload failed; the previous configuration stays in force");
  reloading_ = false;
  told_.clear();
  TellManager();
}

// Says how the broker is, when that has changed. The start lasts until the broker listens anywhere:
// until then nobody can be served, and whoever waits for the unit would find nothing.
void Supervisor::TellManager() {
  if (!serves_ || reloading_ || stopping()) return;
  const Clock::time_point now = Clock::now();
  std::vector<std::string> waited_for;
  for (const auto& [name, service] : services_) {
    const auto of_service = service->WaitsFor(now);
    waited_for.insert(waited_for.end(), of_service.begin(), of_service.end());
    start_over_ = start_over_ || !service->setup()->listeners.empty();
  }
  start_over_ = start_over_ || waited_for.empty() || now - begun_ >= kLongestStart;
  std::vector<std::string> parts;
  if (start_over_) parts.push_back(StatusLine());
  if (last_reload_ && !last_reload_->errors.empty())
    parts.push_back("the last reload failed: " + last_reload_->errors.front());
  if (!waited_for.empty()) parts.push_back("waiting for " + absl::StrJoin(waited_for, ", "));
  const std::string text = absl::StrJoin(parts, "; ");
  if (text == std::exchange(told_, text)) return;
  start_over_ ? notifier_.Ready(text) : notifier_.Starting(text, kLonger);
}

// This is a function of its own so that the setup in force is not kept alive while it is replaced:
// listeners that no service has any more have to be closed before "in force" is logged.
std::shared_ptr<const Setup> Supervisor::OpenNext(Diagnostics& diagnostics) const {
  const Setup in_force = InForce();
  return std::make_shared<const Setup>(OpenSetup(diagnostics, inherited_, &in_force));
}

asio::awaitable<bool> Supervisor::TryReload() {
  Diagnostics diagnostics(setup_->file);
  const std::shared_ptr<const Setup> next = OpenNext(diagnostics);
  if (!diagnostics.failed()) CheckUnchanged(*setup_, *next, diagnostics);
  if (!diagnostics.failed()) {
    const Setup in_force = InForce();
    co_await Inspect(*next, &in_force, diagnostics);
  }
  for (const std::string& warning : diagnostics.warnings()) log::Warning(warning);
  if (diagnostics.failed()) {
    Fail(diagnostics.errors());
    co_return false;
  }
  const bool introduced = co_await Introduce(next);
  co_return introduced;
}

PorterStart Supervisor::PorterStartOf(const Setup& setup) const {
  return {.program = programs_.porter,
          .confinement = ConfinementOf(setup.account),
          .log = logs_.sources()};
}

void Supervisor::OpenStatusSocket() {
  auto status = std::make_unique<StatusSocket>(
      io_.get_executor(), setup_->config.broker.runtime_dir.value, PorterStartOf(*setup_),
      [this] { return Status(); }, [this] { wake_.Notify(); });
  if (const absl::Status opened = status->Open(); !opened.ok())
    return log::Error("no status: " + std::string(opened.message()));
  status_socket_ = std::move(status);
}

std::string Supervisor::Status() const {
  const char* state = stopping() ? "stopping" : serves_ ? "serving" : "starting";
  return StatusReport({*setup_, state, started_, reloads_, last_reload_, services_, old_services_,
                       status_socket_ ? status_socket_->porter().get() : nullptr, machine_,
                       logs_.processes()});
}

void Supervisor::Sweep() {
  std::erase_if(old_services_,
                [](const auto& service) { return service->gone() && service->left_behind() == 0; });
}

// Includes the services that are being introduced; some of them are in force already.
std::vector<std::shared_ptr<ServiceBroker>> Supervisor::AllServices() const {
  std::vector<std::shared_ptr<ServiceBroker>> all = old_services_;
  for (const auto& [name, service] : services_) all.push_back(service);
  for (const auto& [name, service] : introduced_) {
    if (!services_.contains(name)) all.push_back(service);
  }
  return all;
}

bool Supervisor::All(bool (ServiceBroker::*state)() const) const {
  return std::ranges::all_of(AllServices(),
                             [state](const auto& service) { return (*service.*state)(); });
}

asio::awaitable<void> Supervisor::End() {
  notifier_.Stopping(setup_->config.broker.drain_timeout + kEndMargin);
  log::Notice(stop_ == Stop::kNow ? "stopping now" : "stopping");
  // Closes listeners and key files, since nothing is started any more.
  Setup closed{
      .file = setup_->file, .config = setup_->config, .account = setup_->account, .services = {}};
  setup_ = std::make_shared<const Setup>(std::move(closed));
  inherited_.clear();
  for (const auto& service : AllServices()) service->End(/*removed=*/false);
  const auto workers_gone = [this] {
    return stop_ == Stop::kNow ||
           (All(&ServiceBroker::handshakers_gone) && All(&ServiceBroker::workers_gone));
  };
  while (!workers_gone()) {
    co_await Until(workers_gone, Clock::now() + kAskAgain);
    notifier_.Stopping(kEndMargin);
  }
  for (const auto& service : AllServices()) {
    service->EndKeyholders();
    if (stop_ == Stop::kNow) service->Kill();
  }
  if (status_socket_) status_socket_->porter()->Close();
  const auto all_gone = [this] {
    return All(&ServiceBroker::gone) && (!status_socket_ || status_socket_->porter()->gone());
  };
  co_await Until(all_gone, Clock::now() + kReapTimeout + Generation::kEndTimeout);
  co_await logs_.FinishServices();
  log::Notice("stopped");
  co_await logs_.FinishBroker();
}

}  // namespace tlsbroker::supervisor
