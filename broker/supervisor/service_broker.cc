// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/service_broker.h"

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <cstring>
#include <utility>

#include "absl/strings/str_join.h"
#include "broker/supervisor/counters.h"
#include "broker/supervisor/elsewhere.h"
#include "broker/supervisor/snapshot.h"
#include "broker/supervisor/start_failure.h"
#include "broker/supervisor/worker_spec.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/counters.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

// How often the log says that an address is still waited for.
constexpr std::chrono::minutes kWaitingLine{5};
constexpr std::chrono::seconds kTextStep{5};
// The longest pause before a handshaker is started again that ends or hangs again and again.
constexpr milliseconds kLongestHandshakerPause{1'000};
// At the end of the broker: how long a worker may leave connections waiting until those are dropped
// that their clients have ended.
constexpr milliseconds kUntakenTimeout{3'000};

std::string InSeconds(Clock::duration time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

std::string ReadyLine(const Generation& generation) {
  const ServiceSetup& setup = *generation.setup();
  std::vector<std::string> addresses;
  for (const Listener& listener : setup.listeners) addresses.push_back(ToString(listener.address));
  return "ready" + log::Field("generation", std::to_string(generation.number())) +
         log::Field("service", setup.name()) +
         log::Field("handshakers", std::to_string(generation.handshakers())) +
         log::Field("listen", absl::StrJoin(addresses, ","));
}

void ResizeQueue(const ServiceSetup& setup) {
  const auto& backlog = setup.config.backlog;
  const absl::Status resized = setup.queue->Resize(backlog.value);
  if (!resized.ok()) log::Error(std::string(resized.message()));
  const uint32_t capacity = setup.queue->capacity();
  if (capacity == backlog.value) return;
  log::Notice(Diagnostics(setup.file).Where(backlog.position) +
              ": the kernel gives this queue room for " + std::to_string(capacity) +
              " connections; more needs CAP_NET_ADMIN or a larger "
              "net.core.wmem_max, fewer than 4 are not possible");
}

// The same setup without everything that is open. Listeners of a service manager stay open there,
// and connections that come wait for the next broker.
std::shared_ptr<const ServiceSetup> Closed(const ServiceSetup& setup) {
  ServiceSetup closed;
  closed.file = setup.file;
  closed.config = setup.config;
  closed.log_level = setup.log_level;
  closed.drain_timeout = setup.drain_timeout;
  closed.queue = setup.queue;
  return std::make_shared<const ServiceSetup>(std::move(closed));
}

// Why a generation did not become ready: the most telling reason of those that are known.
std::vector<std::string> WhyNot(const Generation& generation, const ServiceSetup& setup,
                                const absl::Status& started, bool& blames_config) {
  Diagnostics diagnostics(setup.file);
  const auto failed = generation.failed();
  blames_config = failed && BlameConfig(*failed, setup, diagnostics);
  if (blames_config) return diagnostics.errors();
  std::string why = "it did not become ready in time";
  if (generation.broken()) why = "a process ended";
  if (failed) why = failed->text;
  for (const absl::Status& status : {generation.start_error(), started}) {
    if (!status.ok()) why = std::string(status.message());
  }
  return {"generation " + std::to_string(generation.number()) + " of service " + setup.name() +
          " does not start: " + log::Printable(why)};
}

std::shared_ptr<const ServiceSetup> WithWhatCame(const ServiceSetup& proposed,
                                                 const ServiceSetup& in_force) {
  auto setup = std::make_shared<ServiceSetup>(proposed);
  std::erase_if(setup->missing, [&](const MissingListener& missing) {
    const auto& open = in_force.listeners;
    const auto came = std::ranges::find(open, missing.address.value, &Listener::address);
    if (came == open.end()) return false;
    setup->listeners.push_back(*came);
    return true;
  });
  return setup;
}

}  // namespace

ServiceBroker::ServiceBroker(const asio::any_io_executor& executor, std::string name,
                             const Programs& programs, Logs& logs, std::function<void()> changed)
    : executor_(executor),
      name_(std::move(name)),
      programs_(programs),
      logs_(logs),
      changed_(std::move(changed)) {
  RotateTicketKeys(Clock::now());
}

std::shared_ptr<Generation> ServiceBroker::NewGeneration(
    std::shared_ptr<const ServiceSetup> setup) {
  return std::make_shared<Generation>(executor_, ++generations_, std::move(setup), ticket_keys_,
                                      programs_, logs_.sources(), [weak = weak_from_this()] {
                                        if (const auto self = weak.lock()) self->Changed();
                                      });
}

uint32_t ServiceBroker::WantedHandshakers(const ServiceSetup& setup) const {
  return std::clamp(scale_.wanted(), setup.config.min_handshakers, setup.max_handshakers);
}

// ---- A new setup ----

// An address that was missing when the new setup was opened may be listened on by now.
void ServiceBroker::Propose(std::shared_ptr<const ServiceSetup> setup) {
  proposed_ = setup_ ? WithWhatCame(*setup, *setup_) : std::move(setup);
  candidate_.reset();
  candidate_error_ = absl::OkStatus();
  const bool same = current_ && !current_->broken() && FingerprintOf(*proposed_) == fingerprint_;
  const bool nobody_asks = !current_ && proposed_->config.start == StartWhen::kOnDemand;
  if (same || nobody_asks || stopped_) return;
  KillSuccessor();
  candidate_ = NewGeneration(proposed_);
  candidate_error_ = candidate_->Start(WantedHandshakers(*proposed_));
}

ServiceBroker::Proposal ServiceBroker::proposal() const {
  if (!candidate_) return Proposal::kReady;
  if (!candidate_error_.ok() || candidate_->broken()) return Proposal::kFailed;
  if (candidate_->ready()) return Proposal::kReady;
  const bool late = Clock::now() > candidate_->started() + Generation::kReadyTimeout;
  return late ? Proposal::kFailed : Proposal::kPending;
}

std::vector<std::string> ServiceBroker::ProposalErrors(bool& blames_config) const {
  return WhyNot(*candidate_, *proposed_, candidate_error_, blames_config);
}

bool ServiceBroker::Adopt() {
  StopAwaitingDemand();
  const auto before = std::exchange(setup_, std::exchange(proposed_, nullptr));
  ResizeQueue(*setup_);
  UpdateWorkers();
  UpdateAttachPoint();
  const bool replaced = candidate_ != nullptr;
  const std::string fingerprint = FingerprintOf(*setup_);
  if (successor_ && FingerprintOf(*successor_->setup()) != fingerprint) KillSuccessor();
  if (successor_) successor_->Renew(setup_);
  if (replaced) {
    TakeOver(std::exchange(candidate_, nullptr));
  } else if (current_ && fingerprint == fingerprint_) {
    current_->Renew(setup_);
  } else if (current_ && stopped_) {
    // The addresses of this generation may belong to another service by now.
    Retire(std::exchange(current_, nullptr), setup_->drain_timeout);
  }
  Changed();
  return replaced;
}

void ServiceBroker::Withdraw() {
  proposed_.reset();
  if (!candidate_) return;
  candidate_->Kill();
  retired_.push_back(std::exchange(candidate_, nullptr));
  Changed();
}

// ---- Generations ----

// The former generation closes the listeners first, so that it accepts nothing that comes after a
// reload. Then a connection that has woken only the former generation is seen by the new
// handshakers when they begin to accept.
void ServiceBroker::TakeOver(std::shared_ptr<Generation> next) {
  const auto before = std::exchange(current_, std::move(next));
  outdated_ = false;
  fingerprint_ = FingerprintOf(*current_->setup());
  restart_at_ = Clock::time_point::min();
  last_start_ = last_use_ = Clock::now();
  if (!before) return;
  Retire(before, setup_->drain_timeout);
  last_ = before;
  let_go_until_ = Clock::now() + Generation::kDrainingTimeout;
}

void ServiceBroker::StepTakeOver(Clock::time_point now) {
  if (!last_) return;
  if (!last_->listeners_closed()) {
    if (now < let_go_until_) return;
    log::Warning("the old handshakers do not stop accepting; the new ones begin beside them" +
                 log::Field("service", name_));
  }
  last_.reset();
  AcceptAfterLast();
}

void ServiceBroker::AcceptAfterLast() {
  if (current_ && !last_ && !current_->accepts()) Accept();
}

void ServiceBroker::Accept() {
  current_->Accept();
  log::Notice(ReadyLine(*current_));
}

void ServiceBroker::Retire(std::shared_ptr<Generation> generation, milliseconds deadline) {
  generation->Drain(deadline);
  retired_.push_back(std::move(generation));
}

void ServiceBroker::KillSuccessor() {
  if (!successor_) return;
  successor_->Kill();
  retired_.push_back(std::exchange(successor_, nullptr));
}

void ServiceBroker::StepRestart(Clock::time_point now) {
  if (successor_) {
    const bool late = now > successor_->started() + Generation::kReadyTimeout;
    if (successor_->ready()) {
      demanded_ = false;
      TakeOver(std::exchange(successor_, nullptr));
      return AcceptAfterLast();
    }
    if (!successor_->broken() && candidate_error_.ok() && !late) return;
    bool blames_config = false;
    for (const std::string& line :
         WhyNot(*successor_, *successor_->setup(), candidate_error_, blames_config)) {
      log::Error(line);
    }
    restart_at_ = now + backoff_.Next(now - successor_->started());
    KillSuccessor();
    candidate_error_ = absl::OkStatus();
    return;
  }
  if (candidate_ || stopped_) return;
  const bool queue_broken = setup_->queue->Broken();
  // A setup that came into force while no process could be started.
  const bool stale = current_ && current_->setup() != setup_;
  // The service was stopped while its setup changed.
  const bool missing = !current_ && !on_demand();
  const bool broken = (current_ && current_->broken()) || queue_broken || stale || missing;
  if (!broken && !(demanded_ && !current_)) return;
  if (broken && restart_at_ == Clock::time_point::min()) {
    const milliseconds pause = backoff_.Next(now - last_start_);
    restart_at_ = now + pause;
    if (queue_broken) {
      log::Error(
          "a process of the service has shut the queue of its service down; it gets a new one" +
          log::Field("service", name_));
    }
    log::Warning("starting a new generation in " + std::to_string(pause.count()) + " ms" +
                 log::Field("service", name_));
  }
  if (now < restart_at_) return WakeAt(restart_at_);
  if (queue_broken && !RenewQueue()) return;
  if (!current_ && !demanded_ && !missing) return;
  successor_ = NewGeneration(setup_);
  candidate_error_ = successor_->Start(WantedHandshakers(*setup_));
}

// The connections that waited in the old queue are lost with it.
bool ServiceBroker::RenewQueue() {
  auto queue = Queue::Open(setup_->config.backlog.value, name_);
  if (!queue.ok()) {
    log::Error("a new queue cannot be made: " + std::string(queue.status().message()) +
               log::Field("service", name_));
    restart_at_ = Clock::now() + Backoff::kLongest;
    return false;
  }
  ServiceSetup setup = *setup_;
  setup.queue = std::make_shared<Queue>(*std::move(queue));
  StopAwaitingDemand();
  setup_ = std::make_shared<const ServiceSetup>(std::move(setup));
  restart_at_ = Clock::time_point::min();
  UpdateWorkers();
  UpdateAttachPoint();
  return true;
}

void ServiceBroker::StepHandshakers(Clock::time_point now) {
  if (!current_ || last_ || !current_->ready() || current_->broken()) return;
  if (current_->TakeLoss()) {
    const auto pause =
        std::min(handshaker_backoff_.Next(now - last_handshaker_), kLongestHandshakerPause);
    next_handshaker_ = now + pause;
  }
  const uint32_t wanted = WantedHandshakers(*setup_);
  const uint32_t have = current_->handshakers();
  if (have > wanted) current_->RetireHandshaker();
  if (have >= wanted || stopped_) return;
  if (now < next_handshaker_) return WakeAt(next_handshaker_);
  last_handshaker_ = now;
  if (const absl::Status added = current_->AddHandshaker(); !added.ok()) {
    log::Error("cannot start another handshaker" + log::Field("service", name_) +
               log::Field("why", std::string(added.message())));
    next_handshaker_ = now + kLongestHandshakerPause;
  }
}

// ---- On demand ----

// Watches each descriptor by itself: to watch another epoll instance, epoll_ctl(2) takes a lock of
// the whole machine, which every user can hold. Handshakers make all of these non-blocking, as this
// event loop does.
asio::awaitable<void> ServiceBroker::AwaitDemand() {
  const auto self = shared_from_this();
  demand_ = std::make_unique<Event>(executor_);
  const auto watch = [this](int fd) {
    demand_watches_.push_back(std::make_unique<Watch>(executor_, fd));
    asio::co_spawn(executor_, NoteDemand(*demand_watches_.back()), EndsProcess());
  };
  watch(setup_->queue->answering());
  for (const Listener& listener : setup_->listeners) watch(listener.socket->get());
  if (!demanded_) co_await demand_->Wait();
  demanded_ = demanded_ && ending_ == Ending::kNo;
  demand_watches_.clear();
  demand_.reset();
  awaits_demand_ = false;
  Changed();
}

// To be called before the setup changes: the watches only borrow the setup's descriptors.
void ServiceBroker::StopAwaitingDemand() {
  demand_watches_.clear();
  if (demand_) demand_->Notify();
}

asio::awaitable<void> ServiceBroker::NoteDemand(Watch& watch) {
  const auto self = shared_from_this();
  const bool readable = co_await watch.Readable();
  if (!readable) co_return;
  demanded_ = true;
  if (demand_) demand_->Notify();
}

void ServiceBroker::StepDemand(Clock::time_point now) {
  if (!on_demand()) return;
  if (!current_) {
    if (awaits_demand_ || demanded_ || successor_ || candidate_ || stopped_) return;
    awaits_demand_ = true;
    asio::co_spawn(executor_, AwaitDemand(), EndsProcess());
    return;
  }
  const supervision::Counters counters = current_->counters();
  const uint64_t used = counters.accepted + counters.rekeyed + counters.rekey_refused +
                        counters.opened + counters.open_failed;
  const bool active = counters.handshakes_active + counters.relay_active > 0;
  if (active || std::exchange(used_, used) != used) last_use_ = now;
  if (last_ || candidate_ || successor_) return;
  const Clock::time_point due = last_use_ + setup_->config.idle_timeout;
  if (now < due) return;
  log::Info("the service is idle, ending its processes" + log::Field("service", name_));
  Retire(std::exchange(current_, nullptr), setup_->drain_timeout);
}

// ---- Workers ----

void ServiceBroker::UpdateWorkers() {
  if (pool_ && !setup_->config.worker) {
    pool_->Stop(milliseconds(0), setup_->drain_timeout);
    old_pools_.push_back(std::exchange(pool_, nullptr));
  }
  if (!setup_->config.worker) return;
  WorkerSpec spec = WorkerSpecOf(*setup_, programs_);
  PathIdentities paths = LookUpPaths(spec.paths(), name_);
  const std::string where =
      Diagnostics(setup_->file).Where(setup_->config.worker->command.position);
  const bool same = pool_ && pool_->spec() == spec && pool_->queue() == setup_->queue;
  if (same && !WorkerPathsChanged(paths)) {
    // Those that were not looked up in time when the workers were started.
    std::erase_if(paths, [](const auto& found) { return found.second.error != 0; });
    pool_->SetWhere(where);
    return worker_paths_.merge(paths);
  }
  worker_paths_ = std::move(paths);
  if (pool_) {
    pool_->Stop(milliseconds(0), setup_->drain_timeout);
    old_pools_.push_back(std::exchange(pool_, nullptr));
  }
  auto log = logs_.ForService(name_);
  if (!log.ok()) {
    return log::Error(where + ": no worker can be started: " + std::string(log.status().message()));
  }
  pool_ = std::make_shared<WorkerPool>(
      executor_, std::move(spec), where, setup_->queue,
      [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Changed();
      },
      *std::move(log));
  pool_->Start();
}

// Workers see what their paths named when they were started. What cannot be found now is no reason
// to replace them, since the next ones could not start.
bool ServiceBroker::WorkerPathsChanged(const PathIdentities& found) const {
  bool changed = false;
  bool missing = false;
  for (const auto& [path, identity] : found) {
    if (identity.error != 0) {
      missing = true;
      log::Warning("\"" + log::Printable(path) +
                   "\" cannot be found: " + std::strerror(identity.error) +
                   "; the workers stay as they are" + log::Field("service", name_));
      continue;
    }
    // A path that could not be looked up in time, then or now, tells nothing.
    const auto before = worker_paths_.find(path);
    if (before == worker_paths_.end() || before->second == identity) continue;
    changed = true;
    log::Notice("\"" + log::Printable(path) +
                "\" is not the one that the workers have; they are replaced" +
                log::Field("service", name_));
  }
  return changed && !missing;
}

void ServiceBroker::UpdateAttachPoint() {
  if (setup_->config.worker) return attach_point_.reset();
  PorterStart start{.program = programs_.porter,
                    .confinement = ConfinementOf(setup_->account),
                    .log = logs_.sources()};
  if (attach_point_) {
    return attach_point_->Change(std::move(start), AllowedBy(setup_->config), setup_->queue);
  }
  auto point = std::make_unique<AttachPoint>(executor_, setup_->runtime_dir, name_,
                                             std::move(start), AllowedBy(setup_->config),
                                             setup_->queue, [weak = weak_from_this()] {
                                               if (const auto self = weak.lock()) self->Changed();
                                             });
  if (const absl::Status opened = point->Open(); !opened.ok()) {
    return log::Error(Diagnostics(setup_->file).Where(setup_->config.name.position) +
                      ": workers cannot attach: " + std::string(opened.message()));
  }
  porters_.push_back(point->porter());
  attach_point_ = std::move(point);
}

// ---- Its end ----

void ServiceBroker::End(bool removed) {
  if (ending_ != Ending::kNo) return;
  ending_ = removed ? Ending::kRemoved : Ending::kHandshakers;
  Withdraw();
  StopAwaitingDemand();
  KillSuccessor();
  last_.reset();
  const milliseconds drain = setup_ ? setup_->drain_timeout : milliseconds(0);
  if (current_) Retire(std::exchange(current_, nullptr), drain);
  if (setup_) setup_ = Closed(*setup_);
  if (removed) attach_point_.reset();
  if (removed && pool_) {
    // When the last handshaker that has the sending end has ended, the workers see the end of their
    // queue.
    pool_->queue()->CloseSending();
    pool_->Stop(drain + Generation::kEndTimeout);
    old_pools_.push_back(std::exchange(pool_, nullptr));
  }
  Changed();
}

void ServiceBroker::StepEnd() {
  if (ending_ != Ending::kHandshakers || !handshakers_gone()) return;
  ending_ = Ending::kWorkers;
  if (pool_) {
    pool_->queue()->CloseSending();
    old_pools_.push_back(std::exchange(pool_, nullptr));
  }
  for (const auto& pool : old_pools_) pool->Stop(milliseconds(0));
  attach_point_.reset();
}

// A client that ended its direction and then left cannot be told from one that waits for an answer
// until something is sent to it. If no worker takes connections, it would hold a handshaker that
// relays it until the drain timeout.
void ServiceBroker::DropUntaken(Clock::time_point now) {
  if (!setup_ || !pool_) return;
  const uint32_t waiting = pool_->queue()->waiting();
  const bool moves = waiting == 0 || waiting < untaken_ || untaken_ == 0;
  untaken_ = waiting;
  if (moves) untaken_since_ = now;
  if (now < untaken_since_ + kUntakenTimeout) return;
  untaken_since_ = now;
  log::Warning(
      "the broker ends, and no worker takes the connections that wait: those that their "
      "clients have ended are dropped" +
      log::Field("service", name_) + log::Field("waiting", std::to_string(waiting)));
  pool_->queue()->DropEnded();
}

void ServiceBroker::EndKeyholders() {
  for (const auto& generation : retired_) generation->EndKeyholder();
}

void ServiceBroker::Kill() {
  if (pool_) {
    pool_->Stop(milliseconds(0));
    old_pools_.push_back(std::exchange(pool_, nullptr));
  }
  for (const auto& generation : retired_) generation->Kill();
  for (const auto& pool : old_pools_) pool->Kill();
  attach_point_.reset();
  for (const auto& porter : porters_) porter->Kill();
}

bool ServiceBroker::handshakers_gone() const {
  return !current_ && std::ranges::all_of(retired_, [](const auto& generation) {
    return generation->handshakers_gone();
  });
}

bool ServiceBroker::workers_gone() const {
  return !pool_ && std::ranges::all_of(old_pools_, [](const auto& pool) { return pool->gone(); });
}

bool ServiceBroker::gone() const {
  return !current_ && workers_gone() &&
         std::ranges::all_of(retired_, [](const auto& generation) { return generation->gone(); }) &&
         std::ranges::all_of(porters_, [](const auto& porter) { return porter->gone(); });
}

// ---- Turns ----

void ServiceBroker::Changed() {
  if (std::exchange(step_is_due_, true)) return;
  asio::post(executor_, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->step_is_due_ = false;
    self->Step();
    self->changed_();
  });
}

void ServiceBroker::WakeAt(Clock::time_point time) {
  timer_.expires_at(time);
  timer_.async_wait([weak = weak_from_this()](const asio::error_code& cancelled) {
    const auto self = weak.lock();
    if (self && !cancelled) self->Changed();
  });
}

void ServiceBroker::Step() {
  const Clock::time_point now = Clock::now();
  Sweep();
  if (ending_ != Ending::kNo) return StepEnd();
  if (!setup_) return;
  StepTakeOver(now);
  StepRestart(now);
  StepHandshakers(now);
  StepDemand(now);
  if (pool_ && current_) {
    const supervision::Counters counters = current_->counters();
    pool_->NoteHandOffs(counters.handed_off_direct + counters.handed_off_relay);
  }
}

void ServiceBroker::Look(Clock::time_point now) {
  for (const auto* one : {&current_, &candidate_, &successor_}) {
    if (*one) (*one)->Look(now);
  }
  for (const auto& generation : retired_) generation->Look(now);
  if (pool_) pool_->Look(now);
  for (const auto& pool : old_pools_) pool->Look(now);
  for (const auto& porter : porters_) porter->Look(now);
  if (now >= next_rotation_) RotateTicketKeys(now);
  if (ending_ == Ending::kHandshakers) DropUntaken(now);
  if (ending_ == Ending::kNo && setup_) {
    // What is proposed does not know of what would be opened now.
    if (!stopped_ && !proposed_) MendListeners();
    if (current_ && !last_ && current_->ready())
      scale_.Next(current_->heartbeats(), setup_->config.min_handshakers, setup_->max_handshakers);
  }
  const bool too_many = left_behind() >= kMaxLeftBehind;
  if (too_many != std::exchange(stopped_, too_many)) {
    too_many ? log::Error("the service is stopped: too many of its processes cannot be ended" +
                          log::Field("service", name_) +
                          log::Field("left_behind", std::to_string(left_behind())))
             : log::Notice("the service goes on: processes that could not be ended have ended" +
                           log::Field("service", name_));
  }
  Step();
}

// Forgets what has ended. At the end of the broker the keyholders stay until the workers are gone.
void ServiceBroker::Sweep() {
  const bool keep_keyholders = ending_ == Ending::kHandshakers || ending_ == Ending::kWorkers;
  for (const auto& generation : retired_) {
    if (!keep_keyholders && generation->handshakers_gone()) generation->EndKeyholder();
  }
  std::erase_if(retired_, [this](const auto& generation) {
    if (!generation->gone() || generation->left_behind() || generation == last_) return false;
    AddEnded(past_, generation->counters());
    past_hung_ += generation->hung();
    return true;
  });
  std::erase_if(old_pools_, [](const auto& pool) { return pool->gone(); });
  std::erase_if(porters_, [](const auto& porter) { return porter->gone(); });
}

void ServiceBroker::StartListening() {
  // The sockets listen before anybody accepts: an accept(2) that comes too early fails.
  for (const Listener& listener : setup_->listeners) supervisor::StartListening(listener);
  // A service that does not listen on a wildcard address any more has closed it by now.
  MendListeners();
  AcceptAfterLast();
}

// Opens listeners that were shut down, and addresses that are missing. For the service manager's
// addresses there are no other sockets, so those listen again. Ours are made anew, for another
// generation: with the help of a worker, somebody can hold the lock of a socket that was shut down
// for good, and whoever touches it waits.
void ServiceBroker::MendListeners() {
  const auto is_down = [](const Listener& listener) { return !Listens(listener); };
  if (setup_->missing.empty() && waited_for_.empty() &&
      std::ranges::none_of(setup_->listeners, is_down))
    return;
  ServiceSetup setup = *setup_;
  std::erase_if(setup.listeners, [&](const Listener& listener) {
    if (!is_down(listener)) return false;
    log::Error("a process of the service has shut a listener down; it listens again" +
               log::Field("service", name_) + log::Field("listen", ToString(listener.address)));
    if (std::holds_alternative<SystemdSocket>(listener.address)) {
      supervisor::StartListening(listener);
      return false;
    }
    const auto& listen = setup.config.listen;
    setup.missing.push_back(
        {*std::ranges::find(listen, listener.address, &At<ListenAddress>::value)});
    return true;
  });
  std::erase_if(setup.missing, [&](MissingListener& missing) {
    SharedFd socket = OpenMissing(missing.address.value, setup.config);
    missing.error = errno;
    if (!socket) return false;
    setup.listeners.push_back({missing.address.value, std::move(socket), name_});
    return true;
  });
  LogMissing(setup.missing, Clock::now());
  if (FingerprintOf(setup) == FingerprintOf(*setup_)) return;
  StopAwaitingDemand();
  setup_ = std::make_shared<const ServiceSetup>(std::move(setup));
}

// Says at once that an address is waited for, then rarely, and when that is over.
void ServiceBroker::LogMissing(const std::vector<MissingListener>& missing, Clock::time_point now) {
  for (const MissingListener& one : missing) {
    const std::string address = ToString(one.address.value);
    const auto [waited_for, is_new] = waited_for_.try_emplace(address, WaitedFor{now, now, {}});
    auto& [since, next_line, why] = waited_for->second;
    const auto [wrong, right] = WhyMissing(one);
    why = wrong;
    if (now < next_line) continue;
    next_line = now + kWaitingLine;
    log::Error(Diagnostics(setup_->file).Where(one.address.position) + ": cannot listen on \"" +
               address + "\" yet: " + wrong + "; " + right + "; trying again" +
               log::Field("service", name_) + log::Field("for_s", InSeconds(now - since)));
  }
  std::erase_if(waited_for_, [&](const auto& entry) {
    const auto is_it = [&entry](const auto& one) {
      return ToString(one.address.value) == entry.first;
    };
    if (std::ranges::any_of(missing, is_it)) return false;
    log::Notice("an address is not waited for any more" + log::Field("service", name_) +
                log::Field("listen", entry.first) +
                log::Field("for_s", InSeconds(now - entry.second.since)));
    return true;
  });
}

std::vector<std::string> ServiceBroker::WaitsFor(Clock::time_point now) const {
  std::vector<std::string> list;
  for (const auto& [address, waited_for] : waited_for_) {
    const auto time = now - waited_for.since;  // in steps: each new text is a message
    list.push_back(address + ": " + waited_for.why + " since " +
                   InSeconds(time - time % kTextStep) + " s");
  }
  return list;
}

void ServiceBroker::RotateTicketKeys(Clock::time_point now) {
  next_rotation_ = now + TicketKeyRing::kPeriod;
  const absl::Status rotated = ticket_keys_.Rotate();
  if (!rotated.ok())
    log::Error("a new ticket key cannot be made: " + std::string(rotated.message()));
  if (current_) current_->SendTicketKeys();
}

// ---- What it is like ----

const char* ServiceBroker::state() const {
  if (ending_ != Ending::kNo) return "ending";
  if (stopped_) return "stopped";
  if (current_) return current_->broken() ? "restarting" : "serving";
  return setup_ && on_demand() && !successor_ ? "waiting" : "starting";
}

supervision::Counters ServiceBroker::counters() const {
  supervision::Counters sum = past_;
  if (current_) Add(sum, current_->counters());
  for (const auto& generation : retired_) Add(sum, generation->counters());
  return sum;
}

std::vector<std::shared_ptr<const RoleProcess>> ServiceBroker::processes() const {
  std::vector<std::shared_ptr<const RoleProcess>> list;
  const auto add = [&list](const Generation& generation) {
    for (auto& process : generation.processes()) list.push_back(std::move(process));
  };
  for (const auto* one : {&current_, &candidate_, &successor_}) {
    if (*one) add(**one);
  }
  for (const auto& generation : retired_) add(*generation);
  return list;
}

size_t ServiceBroker::left_behind() const {
  size_t count = StuckErrands(name_, Clock::now()) + logs_.StuckIn(name_);
  for (const auto& process : processes()) count += process->left_behind() ? 1 : 0;
  return count;
}

uint64_t ServiceBroker::hung() const {
  uint64_t count = past_hung_ + (current_ ? current_->hung() : 0);
  for (const auto& generation : retired_) count += generation->hung();
  return count + (pool_ ? pool_->hung() : 0);
}

}  // namespace tlsbroker::supervisor
