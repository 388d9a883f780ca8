#include "broker/supervisor/workers.h"

#include <signal.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <utility>

#include "broker/support/log.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

// How long connections wait in the queue before another worker is started for them, and how often
// it is looked at meanwhile: it may be another one that waits each time.
constexpr milliseconds kScalePause{100};
constexpr int kScaleLooks = 5;
// How long a worker may take to get ready before that is no excuse any more.
constexpr milliseconds kStartTime{1'000};
// Between the end of a worker that was started on demand and the next look at the queue: bounds
// what a worker costs that ends without taking the connection that it was started for.
constexpr milliseconds kDemandPause{10};

constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace

sandbox::WorkerPolicy PolicyOf(const WorkerSpec& spec) {
  const Account account = spec.account.value_or(Account{});
  return {
      .change_user = spec.account.has_value(),
      .uid = account.uid,
      .gid = account.gid,
      .network = spec.network,
      .runs_daemon = spec.runs_daemon,
      .profile = spec.profile,
      .limits = spec.limits,
      .read_only = spec.read_only,
      .read_write = spec.read_write,
      .program = spec.command.front(),
      .executes = spec.executes,
  };
}

WorkerPool::WorkerPool(const asio::any_io_executor& executor, WorkerSpec spec, std::string where,
                       std::shared_ptr<Queue> queue, std::function<void()> changed)
    : executor_(executor),
      spec_(std::move(spec)),
      where_(std::move(where)),
      queue_(std::move(queue)),
      changed_(std::move(changed)),
      demand_pause_(executor),
      use_(executor),
      end_wait_(executor) {
  for (uint32_t i = 0; i < spec_.count; ++i) slots_.push_back(std::make_shared<Slot>(executor));
}

void WorkerPool::Start() {
  if (spec_.on_demand) {
    waiting_for_demand_ = true;
    asio::co_spawn(executor_, RunOnDemand(), asio::detached);
    return;
  }
  while (StartFreeSlot()) {
  }
}

asio::awaitable<void> WorkerPool::RunOnDemand() {
  const auto self = shared_from_this();
  auto descriptor = queue_->OpenWaitDescriptor();
  if (descriptor.ok()) {
    demand_descriptor_ = *std::move(descriptor);
    demand_ = std::make_unique<Watch>(executor_, demand_descriptor_.get());
    if (spec_.idle_timeout.count() > 0) asio::co_spawn(executor_, EndIdle(), asio::detached);
    co_await FollowDemand();
  } else {
    log::Error(where_ + ": no worker can be started on demand: " +
               std::string(descriptor.status().message()));
  }
  waiting_for_demand_ = false;
  Changed();
}

// One worker for the first connection, and one more whenever connections keep waiting.
asio::awaitable<void> WorkerPool::FollowDemand() {
  while (!stopping_ && QueueIsGood()) {
    const bool demanded = co_await demand_->Readable();
    if (!demanded) co_return;
    last_use_ = Clock::now();
    if (busy() > 0) {
      const bool waiting = co_await KeepWaiting();
      if (!waiting) continue;
    }
    if (!stopping_ && QueueIsGood() && StartFreeSlot()) use_.Notify();
  }
}

asio::awaitable<bool> WorkerPool::KeepWaiting() {
  int looks = 0;
  while (const size_t waiting = queue_->waiting()) {
    newest_took_ |= waiting < newest_found_;
    const bool settled = newest_took_ || Clock::now() > newest_started_ + kStartTime;
    if (settled && looks >= kScaleLooks) co_return true;
    ++looks;
    co_await demand_pause_.Wait(Clock::now() + kScalePause / kScaleLooks);
    if (stopping_) co_return false;
    if (busy() > 0) continue;
    co_await demand_pause_.Wait(Clock::now() + kDemandPause);
    co_return queue_->waiting() > 0;
  }
  newest_took_ = true;
  co_return false;
}

asio::awaitable<void> WorkerPool::EndIdle() {
  const auto self = shared_from_this();
  while (!stopping_) {
    const Clock::time_point due = last_use_ + spec_.idle_timeout;
    if (busy() == 0) {
      co_await use_.Wait();
    } else if (Clock::now() < due) {
      co_await use_.Wait(due);
    } else {
      if (queue_->waiting() == 0) Drain();
      last_use_ = Clock::now();
    }
  }
}

// All that were started on demand. No more of them at a time than there are places: what hangs, or
// serves for ever, is not joined by others without end.
void WorkerPool::Drain() {
  for (auto& slot : slots_) {
    if (!slot->busy || draining_.size() >= slots_.size()) continue;
    slot->draining = true;
    if (slot->process) {
      log::Info("idle, told to end role=worker" + log::Field("service", spec_.service) +
                log::Field("pid", std::to_string(slot->process->pid())));
      slot->process->Signal(SIGTERM);
    }
    slot->wake.Notify();
    draining_.push_back(std::exchange(slot, std::make_shared<Slot>(executor_)));
  }
}

void WorkerPool::NoteHandOffs(uint64_t count) {
  if (std::exchange(handed_off_, count) != count) last_use_ = Clock::now();
}

size_t WorkerPool::busy() const {
  return static_cast<size_t>(
      std::ranges::count_if(slots_, [](const auto& slot) { return slot->busy; }));
}

bool WorkerPool::StartFreeSlot() {
  const auto slot = std::ranges::find_if(slots_, [](const auto& each) { return !each->busy; });
  if (slot == slots_.end()) return false;
  (*slot)->busy = true;
  newest_started_ = Clock::now();
  newest_found_ = queue_->waiting();
  newest_took_ = false;
  asio::co_spawn(executor_, RunSlot(*slot), asio::detached);
  return true;
}

asio::awaitable<void> WorkerPool::RunSlot(std::shared_ptr<Slot> slot) {
  const auto self = shared_from_this();
  while (!stopping_ && !slot->draining) {
    const Clock::time_point started = Clock::now();
    const bool by_itself = co_await RunWorker(*slot);
    if (stopping_ || slot->draining || !QueueIsGood() || (by_itself && spec_.on_demand)) break;
    const Clock::time_point now = Clock::now();
    ++restarts_;
    co_await slot->wake.Wait(now + slot->backoff.Next(now - started));
  }
  slot->busy = false;
  std::erase(draining_, slot);
  if (busy() == 0) demand_pause_.Notify();
  Changed();
}

asio::awaitable<bool> WorkerPool::RunWorker(Slot& slot) {
  const std::string service = log::Field("service", spec_.service);
  auto process = SpawnWorker();
  if (!process.ok()) {
    log::Error(where_ + ": the worker cannot be started: " +
               log::Printable(std::string(process.status().message())) + service);
    co_return false;
  }
  const std::string pid = log::Field("pid", std::to_string(process->pid));
  log::Info("started role=worker" + service + pid);
  slot.process = std::make_shared<ChildProcess>(executor_, *std::move(process));
  slot.started = Clock::now();
  const ExitStatus status = co_await slot.process->Exited();
  slot.process.reset();
  const std::string line = "ended role=worker" + service + pid + " " + status.ToString();
  status.success() || stopping_ || slot.draining ? log::Info(line) : log::Warning(line);
  co_return status.success();
}

absl::StatusOr<Process> WorkerPool::SpawnWorker() const {
  std::vector<std::string> environment = {
      kPath, "LISTEN_FDS=2",
      "LISTEN_FDNAMES=tlsbroker." + spec_.service + ":tlsbroker-requests." + spec_.service};
  environment.insert(environment.end(), spec_.environment.begin(), spec_.environment.end());
  return Spawn({
      .arguments = spec_.command,
      .environment = std::move(environment),
      .fds = {queue_->receiving(), queue_->requesting()},
      .log_stdout = true,
      .listen_pid = true,
      .confine = [this] { return sandbox::ConfineWorker(PolicyOf(spec_)); },
  });
}

std::vector<WorkerPool::WorkerState> WorkerPool::running() const {
  std::vector<WorkerState> states;
  for (const auto* slots : {&slots_, &draining_}) {
    for (const auto& slot : *slots) {
      if (slot->process) states.push_back({slot->process->pid(), slot->started, slot->draining});
    }
  }
  return states;
}

// A new queue would take new handshakers, and a worker that breaks queues would make the other
// services pay for it.
bool WorkerPool::QueueIsGood() {
  if (queue_lost_) return false;
  if (stopping_ || !queue_->Broken()) return true;
  queue_lost_ = true;
  log::Error("a worker has shut its queue down for good; reload to make a new one" +
             log::Field("service", spec_.service));
  return false;
}

void WorkerPool::Changed() {
  end_wait_.Notify();
  changed_();
}

void WorkerPool::Stop(milliseconds delay, milliseconds finish) {
  end_at_ = std::min(end_at_, Clock::now() + delay);
  urge_at_ = std::min(urge_at_, Clock::now() + delay + finish);
  end_wait_.Notify();
  if (std::exchange(stopping_, true)) return;
  if (demand_) demand_->Cancel();
  for (const auto& slot : slots_) slot->wake.Notify();
  demand_pause_.Notify();
  use_.Notify();
  asio::co_spawn(executor_, EndWorkers(), asio::detached);
}

// A second SIGTERM cuts connections, so those that have had one are spared the first of these.
asio::awaitable<void> WorkerPool::EndWorkers() {
  const auto self = shared_from_this();
  co_await UntilGone(end_at_);
  Signal(slots_, SIGTERM);
  co_await UntilGone(urge_at_);
  Signal(slots_, SIGTERM);
  Signal(draining_, SIGTERM);
  for (const auto* slots : {&slots_, &draining_}) {
    for (const auto& slot : *slots) {
      if (slot->process) slot->process->KillAfter(kEndTimeout);
    }
  }
}

// Or until a deadline that may come nearer meanwhile.
asio::awaitable<void> WorkerPool::UntilGone(const Clock::time_point& deadline) {
  while (!gone() && Clock::now() < deadline) co_await end_wait_.Wait(deadline);
}

void WorkerPool::Kill() {
  Signal(slots_, SIGKILL);
  Signal(draining_, SIGKILL);
}

void WorkerPool::Signal(const std::vector<std::shared_ptr<Slot>>& slots, int signal) {
  for (const auto& slot : slots) {
    if (slot->process) slot->process->Signal(signal);
  }
}

}  // namespace tlsbroker::supervisor
