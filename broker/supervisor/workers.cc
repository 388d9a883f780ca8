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
      idle_(executor),
      end_wait_(executor) {
  for (uint32_t i = 0; i < spec_.count; ++i) slots_.push_back(std::make_unique<Slot>(executor));
}

void WorkerPool::Start() {
  if (!spec_.on_demand) return StartSlots();
  waiting_for_demand_ = true;
  asio::co_spawn(executor_, RunOnDemand(), asio::detached);
}

asio::awaitable<void> WorkerPool::RunOnDemand() {
  const auto self = shared_from_this();
  auto descriptor = queue_->OpenWaitDescriptor();
  if (!descriptor.ok()) {
    log::Error(where_ + ": no worker can be started on demand: " +
               std::string(descriptor.status().message()));
    waiting_for_demand_ = false;
    co_return Changed();
  }
  demand_descriptor_ = *std::move(descriptor);
  demand_ = std::make_unique<Watch>(executor_, demand_descriptor_.get());
  while (!stopping_ && QueueIsGood()) {
    const bool demanded = co_await demand_->Readable();
    if (!demanded) break;
    StartSlots();
    while (running_slots_ > 0) co_await idle_.Wait();
    if (!stopping_) co_await idle_.Wait(Clock::now() + kDemandPause);
  }
  waiting_for_demand_ = false;
  Changed();
}

void WorkerPool::StartSlots() {
  running_slots_ = slots_.size();
  for (const auto& slot : slots_) asio::co_spawn(executor_, RunSlot(*slot), asio::detached);
}

asio::awaitable<void> WorkerPool::RunSlot(Slot& slot) {
  const auto self = shared_from_this();
  while (!stopping_) {
    const Clock::time_point started = Clock::now();
    const bool by_itself = co_await RunWorker(slot);
    if (stopping_ || !QueueIsGood() || (by_itself && spec_.on_demand)) break;
    const Clock::time_point now = Clock::now();
    ++restarts_;
    co_await slot.wake.Wait(now + slot.backoff.Next(now - started));
  }
  if (--running_slots_ == 0) idle_.Notify();
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
  status.success() || stopping_ ? log::Info(line) : log::Warning(line);
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
  for (const auto& slot : slots_) {
    if (slot->process) states.push_back({slot->process->pid(), slot->started});
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

void WorkerPool::Stop(milliseconds delay) {
  end_at_ = std::min(end_at_, Clock::now() + delay);
  end_wait_.Notify();
  if (std::exchange(stopping_, true)) return;
  if (demand_) demand_->Cancel();
  for (const auto& slot : slots_) slot->wake.Notify();
  idle_.Notify();
  asio::co_spawn(executor_, EndWorkers(), asio::detached);
}

asio::awaitable<void> WorkerPool::EndWorkers() {
  const auto self = shared_from_this();
  while (!gone() && Clock::now() < end_at_) co_await end_wait_.Wait(end_at_);
  SignalAll(SIGTERM);
  for (const auto& slot : slots_) {
    if (slot->process) slot->process->KillAfter(kEndTimeout);
  }
}

void WorkerPool::Kill() { SignalAll(SIGKILL); }

void WorkerPool::SignalAll(int signal) const {
  for (const auto& slot : slots_) {
    if (slot->process) slot->process->Signal(signal);
  }
}

}  // namespace tlsbroker::supervisor
