#include "broker/supervisor/supervisor.h"

#include <signal.h>
#include <sysexits.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"
#include "broker/supervisor/start_failure.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

// After SIGKILL, for the kernel to take the processes down.
constexpr milliseconds kReapTimeout{5'000};

std::vector<std::string> Values(const std::vector<At<std::string>>& list) {
  std::vector<std::string> values;
  for (const auto& entry : list) values.push_back(entry.value);
  return values;
}

std::vector<std::string> ExecOptions(const WorkerConfig& worker) {
  const ConnectionLimits& limits = worker.connections;
  const auto text = [](milliseconds time) { return std::to_string(time.count()) + "ms"; };
  return {"exec",
          std::string("--style=") + (worker.systemd_style ? "systemd" : "stdio"),
          "--max-connections=" + std::to_string(limits.max),
          "--max-per-source=" + std::to_string(limits.max_per_source),
          "--idle-timeout=" + text(limits.idle_timeout),
          "--lifetime=" + text(limits.lifetime),
          "--grace=" + text(limits.grace)};
}

std::vector<std::string> RunOptions(const WorkerConfig& worker) {
  std::vector<std::string> options = {"run"};
  if (worker.port != 0) options.push_back("--port=" + std::to_string(worker.port));
  if (worker.direct) options.emplace_back("--direct");
  return options;
}

// A program that is no worker is run by tlsbroker(1), which is one: by `exec` if it knows standard
// input and output, by `run` if it listens and accepts.
void RunByTool(const WorkerConfig& worker, const Programs& programs, log::Level level,
               WorkerSpec& spec) {
  spec.runs_daemon = worker.kind == WorkerConfig::Kind::kDaemon;
  spec.executes = {spec.command.front()};
  const auto options = spec.runs_daemon ? RunOptions(worker) : ExecOptions(worker);
  std::vector<std::string> command = {programs.tool};
  command.insert(command.end(), options.begin(), options.end());
  command.emplace_back("--");
  command.insert(command.end(), spec.command.begin(), spec.command.end());
  spec.command = std::move(command);
  spec.environment = {std::string(log::kLevelVariable) + "=" +
                      std::to_string(static_cast<int>(level))};
}

WorkerSpec SpecOf(const Setup& setup, size_t index, const Programs& programs) {
  const ServiceConfig& service = setup.config.services[index];
  const WorkerConfig& worker = *service.worker;
  WorkerSpec spec{
      .service = service.name.value,
      .command = worker.command.value,
      .account = setup.accounts.workers[index],
      .network = worker.network,
      .read_only = Values(worker.read_only),
      .read_write = Values(worker.read_write),
      .profile = worker.profile,
      .limits = worker.limits,
      .count = worker.count,
      .on_demand = worker.start == WorkerConfig::StartWhen::kOnDemand,
      .idle_timeout = worker.idle_timeout,
  };
  if (worker.kind != WorkerConfig::Kind::kCommand) {
    RunByTool(worker, programs, setup.config.broker.log_level, spec);
  }
  return spec;
}

std::string Summary(const Setup& setup, uint32_t generation) {
  std::vector<std::string> services;
  std::vector<std::string> addresses;
  for (const ServiceConfig& service : setup.config.services) services.push_back(service.name.value);
  for (const Listener& listener : setup.listeners) addresses.push_back(ToString(listener.address));
  return "ready" + log::Field("generation", std::to_string(generation)) +
         log::Field("handshakers", std::to_string(setup.handshakers)) +
         log::Field("services", absl::StrJoin(services, ",")) +
         log::Field("listen", absl::StrJoin(addresses, ","));
}

// What belongs to the whole life of the broker.
void CheckUnchanged(const Setup& old_setup, const Setup& new_setup, Diagnostics& diagnostics) {
  const auto& old_dir = old_setup.config.broker.runtime_dir;
  const auto& new_dir = new_setup.config.broker.runtime_dir;
  if (old_dir.value == new_dir.value) return;
  diagnostics.Error(new_dir.position, "'runtime_dir' was \"" + old_dir.value + "\" at the start",
                    "restart the broker to change it");
}

void ResizeQueues(const Setup& setup) {
  for (size_t i = 0; i < setup.queues.size(); ++i) {
    const auto& backlog = setup.config.services[i].backlog;
    const absl::Status resized = setup.queues[i]->Resize(backlog.value);
    if (!resized.ok()) log::Error(std::string(resized.message()));
    const uint32_t capacity = setup.queues[i]->capacity();
    if (capacity == backlog.value) continue;
    log::Notice(Diagnostics(setup.file).Where(backlog.position) +
                ": the kernel gives this queue room for " + std::to_string(capacity) +
                " connections; more needs CAP_NET_ADMIN or a larger "
                "net.core.wmem_max, fewer than 4 are not possible");
  }
}

}  // namespace

Supervisor::Supervisor(Setup setup, InheritedSockets inherited)
    : signals_(io_, SIGHUP, SIGTERM, SIGINT),
      wake_(io_.get_executor()),
      programs_(FindPrograms()),
      inherited_(std::move(inherited)),
      setup_(std::make_shared<const Setup>(std::move(setup))) {
  signals_.add(SIGQUIT);
  // "Reopen the logs": there is nothing to reopen, standard error is the log.
  signals_.add(SIGUSR1);
}

int Supervisor::Run() {
  asio::co_spawn(io_, FollowSignals(), asio::detached);
  if (notifier_.watchdog_period()) asio::co_spawn(io_, FeedWatchdog(), asio::detached);
  asio::co_spawn(io_, Live(), asio::detached);
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

asio::awaitable<void> Supervisor::Live() {
  RotateTicketKeys();
  if (const absl::Status opened = OpenStatusSocket(); !opened.ok()) {
    log::Error("no status: " + std::string(opened.message()));
  }
  const bool started = co_await StartGeneration(setup_);
  if (started) {
    Adopt(setup_);
    notifier_.Ready("serving");
    co_await Serve();
  } else if (!stopping()) {
    exit_status_ = start_failure_;
    stop_ = Stop::kNow;
  }
  co_await End();
  io_.stop();
}

asio::awaitable<void> Supervisor::Serve() {
  while (!stopping()) {
    Sweep();
    if (Clock::now() >= next_rotation_) RotateTicketKeys();
    if (std::exchange(reload_, false)) {
      co_await Reload();
    } else if (current_->broken()) {
      co_await Restart();
    } else {
      co_await wake_.Wait(next_rotation_);
    }
  }
}

template <typename Condition>
asio::awaitable<void> Supervisor::Until(Condition condition, Clock::time_point deadline) {
  while (!condition() && Clock::now() < deadline) {
    co_await wake_.Wait(deadline);
    Sweep();
  }
}

asio::awaitable<bool> Supervisor::StartGeneration(const std::shared_ptr<const Setup>& setup) {
  last_start_ = Clock::now();
  const auto next = std::make_shared<Generation>(io_.get_executor(), ++generations_, setup,
                                                 ticket_keys_, [this] { wake_.Notify(); });
  const absl::Status started = next->Start(programs_);
  if (started.ok()) {
    const auto decided = [this, &next] { return next->ready() || next->broken() || stopping(); };
    co_await Until(decided, last_start_ + Generation::kReadyTimeout);
  }
  if (!started.ok() || !next->ready()) {
    failure_ = {"the broker is stopping"};
    if (!stopping()) ReportFailure(*next, started);
    next->Kill();
    retired_.push_back(next);
    co_return false;
  }
  co_await Replace(next);
  log::Notice(Summary(*setup, next->number()));
  co_return true;
}

// The one from before lets go of the listeners first, so that it takes nothing over that comes
// after a reload, and a connection that has woken it alone is seen by those who begin to accept.
asio::awaitable<void> Supervisor::Replace(std::shared_ptr<Generation> next) {
  const auto last = std::exchange(current_, std::move(next));
  if (last) {
    Retire(last);
    const auto let_go = [this, &last] { return last->listeners_closed() || stopping(); };
    co_await Until(let_go, Clock::now() + Generation::kDrainingTimeout);
    if (!let_go())
      log::Warning("handshakers do not stop accepting; the next ones begin beside them");
  }
  if (!stopping()) current_->Accept();
}

void Supervisor::ReportFailure(const Generation& generation, const absl::Status& started) {
  const Setup& setup = *generation.setup();
  Diagnostics diagnostics(setup.file);
  if (generation.failed() && BlameConfig(*generation.failed(), setup.config, diagnostics)) {
    start_failure_ = EX_CONFIG;
    return Fail(diagnostics.errors());
  }
  start_failure_ = EXIT_FAILURE;
  std::string why = "it did not become ready in time";
  if (generation.broken()) why = "a process ended";
  if (generation.failed()) why = generation.failed()->text;
  if (!started.ok()) why = std::string(started.message());
  Fail({"generation " + std::to_string(generation.number()) +
        " does not start: " + log::Printable(why)});
}

void Supervisor::Fail(std::vector<std::string> errors) {
  failure_ = std::move(errors);
  for (const std::string& error : failure_) log::Error(error);
}

void Supervisor::Retire(std::shared_ptr<Generation> generation) {
  generation->Drain(setup_->config.broker.drain_timeout);
  retired_.push_back(std::move(generation));
}

asio::awaitable<void> Supervisor::Restart() {
  const milliseconds pause = backoff_.Next(Clock::now() - last_start_);
  log::Warning("starting a new generation in " + std::to_string(pause.count()) + " ms");
  const auto interrupted = [this] { return stopping() || reload_; };
  co_await Until(interrupted, Clock::now() + pause);
  if (interrupted()) co_return;
  const std::shared_ptr<const Setup> setup = current_->setup();
  co_await StartGeneration(setup);
}

asio::awaitable<void> Supervisor::Reload() {
  notifier_.Reloading();
  const uint64_t number = ++reloads_;
  log::Notice("reloading " + setup_->file);
  failure_.clear();
  const bool reloaded = co_await TryReload();
  last_reload_ = {number, std::chrono::system_clock::now(), failure_};
  if (reloaded) {
    notifier_.Ready("serving");
  } else if (!stopping()) {
    log::Error("reload failed; the configuration from before stays in force");
    notifier_.Ready("serving; the last reload failed: " + failure_.front());
  }
}

asio::awaitable<bool> Supervisor::TryReload() {
  Diagnostics diagnostics(setup_->file);
  const auto next = std::make_shared<const Setup>(OpenSetup(diagnostics, inherited_, setup_.get()));
  if (!diagnostics.failed()) CheckUnchanged(*setup_, *next, diagnostics);
  for (const std::string& warning : diagnostics.warnings()) log::Warning(warning);
  if (diagnostics.failed()) {
    Fail(diagnostics.errors());
    co_return false;
  }
  const bool started = co_await StartGeneration(next);
  if (started) Adopt(next);
  co_return started;
}

void Supervisor::Adopt(std::shared_ptr<const Setup> setup) {
  log::Init("tlsbrokerd", setup->config.broker.log_level);
  ResizeQueues(*setup);
  UpdateWorkers(*setup);
  UpdateAttachPoints(*setup);
  setup_ = std::move(setup);
}

void Supervisor::UpdateWorkers(const Setup& setup) {
  auto old_pools = std::exchange(pools_, {});
  for (size_t i = 0; i < setup.config.services.size(); ++i) {
    if (!setup.config.services[i].worker) continue;
    WorkerSpec spec = SpecOf(setup, i, programs_);
    std::shared_ptr<WorkerPool>& pool = pools_[spec.service];
    if (const auto old = old_pools.find(spec.service); old != old_pools.end()) {
      pool = std::move(old->second);
      old_pools.erase(old);
    }
    if (pool && pool->spec() == spec && pool->queue() == setup.queues[i]) continue;
    if (pool) {
      pool->Stop(milliseconds(0), setup.config.broker.drain_timeout);
      old_pools_.push_back(std::move(pool));
    }
    const Position position = setup.config.services[i].worker->command.position;
    pool = std::make_shared<WorkerPool>(io_.get_executor(), std::move(spec),
                                        Diagnostics(setup.file).Where(position), setup.queues[i],
                                        [this] { wake_.Notify(); });
    pool->Start();
  }
  for (auto& [service, pool] : old_pools) RemovePool(std::move(pool));
}

// Of a service that is no more: when the last handshaker that knew it has left, its workers see the
// end of their queue.
void Supervisor::RemovePool(std::shared_ptr<WorkerPool> pool) {
  pool->queue()->CloseSending();
  pool->Stop(setup_->config.broker.drain_timeout + Generation::kEndTimeout);
  old_pools_.push_back(std::move(pool));
}

void Supervisor::UpdateAttachPoints(const Setup& setup) {
  auto old_points = std::exchange(attach_points_, {});
  for (size_t i = 0; i < setup.config.services.size(); ++i) {
    const ServiceConfig& service = setup.config.services[i];
    if (service.worker) continue;
    const std::string& name = service.name.value;
    if (const auto old = old_points.find(name); old != old_points.end()) {
      old->second->Change(AllowList::Of(service), setup.queues[i]);
      attach_points_.insert(old_points.extract(old));
      continue;
    }
    auto point = AttachPoint::Open(io_.get_executor(), setup.config.broker.runtime_dir.value, name,
                                   AllowList::Of(service), setup.queues[i]);
    if (!point.ok()) {
      log::Error(Diagnostics(setup.file).Where(service.name.position) +
                 ": workers cannot attach: " + std::string(point.status().message()));
      continue;
    }
    (*point)->Start();
    attach_points_.emplace(name, *std::move(point));
  }
  for (auto& [service, point] : old_points) point->Close();
}

absl::Status Supervisor::OpenStatusSocket() {
  ASSIGN_OR_RETURN(status_socket_,
                   StatusSocket::Open(io_.get_executor(), setup_->config.broker.runtime_dir.value,
                                      [this] { return Status(); }));
  asio::co_spawn(io_, status_socket_->Serve(), asio::detached);
  return absl::OkStatus();
}

std::string Supervisor::Status() const {
  const char* state = stopping() ? "stopping" : current_ ? "serving" : "starting";
  return StatusReport({*setup_, state, started_, reloads_, last_reload_, current_.get(), retired_,
                       pools_, attach_points_, machine_});
}

void Supervisor::RotateTicketKeys() {
  next_rotation_ = Clock::now() + TicketKeyRing::kPeriod;
  const absl::Status rotated = ticket_keys_.Rotate();
  if (!rotated.ok()) log::Error("no new ticket key: " + std::string(rotated.message()));
  if (current_) current_->SendTicketKeys();
}

// What is over goes. At the end of the broker the keyholders stay until the workers are gone.
void Supervisor::Sweep() {
  if (stopping()) return;
  NoteHandOffs();
  for (const auto& generation : retired_) {
    if (generation->handshakers_gone()) generation->EndKeyholder();
  }
  std::erase_if(retired_, [](const auto& generation) { return generation->gone(); });
  std::erase_if(old_pools_, [](const auto& pool) { return pool->gone(); });
}

void Supervisor::NoteHandOffs() {
  if (!current_) return;
  for (size_t i = 0; i < setup_->config.services.size(); ++i) {
    const auto pool = pools_.find(setup_->config.services[i].name.value);
    if (pool == pools_.end()) continue;
    const auto counters = current_->service_counters(static_cast<uint16_t>(i));
    pool->second->NoteHandOffs(counters.direct + counters.relay);
  }
}

bool Supervisor::AllGenerations(bool (Generation::*state)() const) const {
  return std::ranges::all_of(retired_,
                             [state](const auto& generation) { return (*generation.*state)(); });
}

bool Supervisor::AllPoolsGone() const {
  return std::ranges::all_of(old_pools_, [](const auto& pool) { return pool->gone(); });
}

asio::awaitable<void> Supervisor::End() {
  notifier_.Stopping();
  log::Notice(stop_ == Stop::kNow ? "stopping now" : "stopping");
  if (current_) Retire(std::move(current_));
  CloseListeners();
  const auto handshakers_gone = [this] {
    return stop_ == Stop::kNow || AllGenerations(&Generation::handshakers_gone);
  };
  co_await Until(handshakers_gone);

  for (auto& [service, pool] : pools_) {
    pool->queue()->CloseSending();
    old_pools_.push_back(std::move(pool));
  }
  for (const auto& pool : old_pools_) pool->Stop(milliseconds(0));
  for (auto& [service, point] : attach_points_) point->Close();
  const auto workers_gone = [this] { return stop_ == Stop::kNow || AllPoolsGone(); };
  co_await Until(workers_gone);

  for (const auto& generation : retired_) generation->EndKeyholder();
  if (stop_ == Stop::kNow) KillAll();
  const auto all_gone = [this] { return AllGenerations(&Generation::gone) && AllPoolsGone(); };
  co_await Until(all_gone, Clock::now() + kReapTimeout + Generation::kEndTimeout);
  log::Notice("stopped");
}

// Those of a service manager stay open there, and what comes waits for the next broker. The key
// files go too: nothing is started any more.
void Supervisor::CloseListeners() {
  setup_ = std::make_shared<const Setup>(Setup{.file = setup_->file,
                                               .config = setup_->config,
                                               .accounts = setup_->accounts,
                                               .credentials = {},
                                               .listeners = {},
                                               .queues = setup_->queues,
                                               .handshakers = setup_->handshakers});
  inherited_.clear();
}

void Supervisor::KillAll() {
  for (const auto& generation : retired_) generation->Kill();
  for (const auto& pool : old_pools_) pool->Kill();
}

}  // namespace tlsbroker::supervisor
