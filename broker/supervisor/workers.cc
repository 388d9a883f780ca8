// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/workers.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <utility>

#include "broker/support/coroutines.h"
#include "broker/support/heartbeat_variable.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/ring.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

// How long connections wait in the queue before another worker is started for them, and how often
// the queue is looked at meanwhile, since each time it may be a different connection that waits.
constexpr milliseconds kScalePause{100};
constexpr int kScaleLooks = 5;
// How long a worker may take to get ready. Until then connections may wait and no other worker is
// started.
constexpr milliseconds kStartTime{1'000};
// For a worker whose network the service manager may have to make (sandbox/namespaces).
constexpr milliseconds kNetworkTimeout{15'000};
// The pause between the end of a worker that was started on demand and the next look at the queue.
// It bounds what a worker costs that ends without taking the connection that it was started for.
constexpr milliseconds kDemandPause{10};

constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace

std::vector<std::string> WorkerSpec::paths() const {
  std::vector<std::string> paths = executes;
  if (paths.empty()) paths.push_back(command.front());
  for (const auto* list : {&read_only, &read_write})
    paths.insert(paths.end(), list->begin(), list->end());
  if (!directory.empty()) paths.push_back(directory);
  return paths;
}

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
      .core_dumps = spec.core_dumps,
      .private_tmp = spec.private_tmp,
      .directory = spec.directory,
      .read_only = spec.read_only,
      .read_write = spec.read_write,
      .program = spec.command.front(),
      .executes = spec.executes,
  };
}

WorkerPool::WorkerPool(const asio::any_io_executor& executor, WorkerSpec spec, std::string where,
                       std::shared_ptr<Queue> queue, std::function<void()> changed,
                       std::shared_ptr<LogSources> log)
    : executor_(executor),
      spec_(std::move(spec)),
      where_(std::move(where)),
      queue_(std::move(queue)),
      changed_(std::move(changed)),
      log_(std::move(log)),
      demand_pause_(executor),
      use_(executor),
      end_wait_(executor) {
  for (uint32_t i = 0; i < spec_.count; ++i) slots_.push_back(std::make_shared<Slot>(executor));
}

void WorkerPool::Start() {
  if (spec_.on_demand) {
    waiting_for_demand_ = true;
    asio::co_spawn(executor_, RunOnDemand(), EndsProcess());
    return;
  }
  while (StartFreeSlot()) {
  }
}

// kLookedAt: the receiving end must stay blocking, for all workers. To watch it by an epoll
// instance of its own would take a lock of the whole machine, which every user can hold.
asio::awaitable<void> WorkerPool::RunOnDemand() {
  const auto self = shared_from_this();
  demand_ = std::make_unique<Watch>(executor_, queue_->receiving(), Watch::How::kLookedAt);
  if (spec_.idle_timeout.count() > 0) asio::co_spawn(executor_, EndIdle(), EndsProcess());
  co_await FollowDemand();
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

// Tells all workers to end that were started on demand. At most as many as there are places may
// drain at a time, so that those which hang, or serve for ever, do not become more and more.
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
  asio::co_spawn(executor_, RunSlot(*slot), EndsProcess());
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
  absl::StatusOr<Process> process = co_await SpawnWorker(slot);
  if (!process.ok()) {
    log::Error(where_ + ": the worker cannot be started: " +
               log::Printable(std::string(process.status().message())) + service);
    co_return false;
  }
  const std::string pid = log::Field("pid", std::to_string(process->pid));
  log::Info("started role=worker" + service + pid);
  slot.process = std::make_shared<ChildProcess>(executor_, *std::move(process));
  slot.started = Clock::now();
  slot.pulse = Pulse();
  slot.hung = false;
  // The worker may have been told to end while it was being started. If its service was removed,
  // the worker has the connections that wait to serve until end_at_.
  if (slot.draining || (stopping_ && Clock::now() >= end_at_)) slot.process->Signal(SIGTERM);
  const ExitStatus status = co_await slot.process->Exited();
  slot.process.reset();
  slot.heartbeats.Reset();
  slot.log.reset();
  const std::string line = "ended role=worker" + service + pid + " " + status.ToString();
  status.success() || stopping_ || slot.draining ? log::Info(line) : log::Warning(line);
  co_return status.success();
}

asio::awaitable<absl::StatusOr<Process>> WorkerPool::SpawnWorker(Slot& slot) const {
  std::vector<std::string> environment = {
      "LISTEN_FDS=2",
      "LISTEN_FDNAMES=tlsbroker." + spec_.service + ":tlsbroker-requests." + spec_.service};
  environment.insert(environment.end(), spec_.environment.begin(), spec_.environment.end());
  const auto is_path = [](const std::string& variable) { return variable.starts_with("PATH="); };
  if (std::ranges::none_of(environment, is_path)) environment.emplace_back(kPath);
  std::vector<int> fds = {queue_->receiving(), queue_->requesting()};
  if (spec_.beats) {
    slot.heartbeats = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!slot.heartbeats) co_return ErrnoStatus("an eventfd for heartbeats");
    const auto number = kChildFd + static_cast<int>(fds.size());
    environment.push_back(std::string(kHeartbeatVariable) + "=" + std::to_string(number));
    fds.push_back(slot.heartbeats.get());
  }
  if (log_) {
    auto log = log_->Open(LogSources::Kind::kWorker, spec_.service);
    if (!log.ok()) co_return log.status();
    slot.log = *std::move(log);
    // The programs of `exec` have pipes of their own, and would get a way around what it writes in
    // front of their lines.
    const bool is_exec = spec_.beats && !spec_.runs_daemon;
    const absl::Status let = is_exec ? absl::OkStatus() : slot.log->LetWorkerOpen();
    if (!let.ok()) co_return let;
  }
  const SpawnRequest request{
      .arguments = spec_.command,
      .environment = std::move(environment),
      .fds = std::move(fds),
      .log = slot.log ? slot.log->writing() : -1,
      .log_stdout = true,
      .listen_pid = true,
      .confine = [this] { return sandbox::ConfineWorker(PolicyOf(spec_)); },
      .time_limit = spec_.runs_daemon ? kNetworkTimeout : kSpawnTimeout,
  };
  absl::StatusOr<Process> process = co_await Spawn(executor_, request);
  if (slot.log && process.ok()) slot.log->Name("[" + std::to_string(process->pid) + "]: ");
  if (slot.log) slot.log->CloseWriting();
  co_return process;
}

void WorkerPool::Look(Clock::time_point now) {
  if (!spec_.beats) return;
  for (const auto* slots : {&slots_, &draining_}) {
    for (const auto& slot : *slots) {
      if (!slot->process || slot->hung) continue;
      if (ring::Silence(slot->heartbeats.get())) slot->pulse.Beat();
      if (!slot->pulse.Hangs(slot->process->pid(), now)) continue;
      slot->hung = true;
      ++hung_;
      log::Error("hangs, killed role=worker" + log::Field("service", spec_.service) +
                 log::Field("pid", std::to_string(slot->process->pid())));
      slot->process->Signal(SIGKILL);
    }
  }
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

// This pool starts no worker on a broken queue. The service gets a new queue, with new handshakers
// and a new pool (ServiceBroker::RenewQueue()).
bool WorkerPool::QueueIsGood() {
  if (queue_lost_) return false;
  if (stopping_ || !queue_->Broken()) return true;
  queue_lost_ = true;
  log::Error("a worker has shut the queue of its service down; no worker is started on it again" +
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
  asio::co_spawn(executor_, EndWorkers(), EndsProcess());
}

// A second SIGTERM cuts connections, so workers that drain, and so have had one, do not get the
// first of these.
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
  const Clock::time_point last = Clock::now() + kEndTimeout + kReapTimeout;
  co_await UntilGone(last);
  if (gone()) co_return;
  // They are in state D, perhaps because of a file system of the worker's own. The end of the
  // broker, or of a reload, does not wait for them.
  left_behind_ = true;
  for (const WorkerState& worker : running()) {
    log::Error("cannot be ended, left behind role=worker" + log::Field("service", spec_.service) +
               log::Field("pid", std::to_string(worker.pid)));
  }
  Changed();
}

// Waits until all are gone, or until a deadline that may come nearer meanwhile.
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
