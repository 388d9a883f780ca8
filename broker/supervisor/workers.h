// The workers of one service: started as configured, each with the receiving end of the service's
// queue, watched, and started again when they end. Connections meanwhile wait in the queue, of
// which the supervisor keeps a copy. Runs in the supervisor, which reads nothing that a worker
// writes.

#ifndef TLSBROKER_BROKER_SUPERVISOR_WORKERS_H_
#define TLSBROKER_BROKER_SUPERVISOR_WORKERS_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/sandbox/worker_policy.h"
#include "broker/supervisor/accounts.h"
#include "broker/supervisor/backoff.h"
#include "broker/supervisor/child_process.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/queue.h"

namespace tlsbroker::supervisor {

// What the workers of a service are. A reload that changes any of it starts them anew.
struct WorkerSpec {
  std::string service;
  std::vector<std::string> command;
  std::vector<std::string> environment;  // besides what all workers get
  std::vector<std::string> executes;     // programs that it starts
  std::optional<Account> account;        // none without root
  bool network = false;
  bool runs_daemon = false;
  std::vector<std::string> read_only;
  std::vector<std::string> read_write;
  sandbox::WorkerProfile profile = sandbox::WorkerProfile::kDefault;
  sandbox::WorkerLimits limits;
  uint32_t count = 1;
  bool on_demand = false;
  friend bool operator==(const WorkerSpec&, const WorkerSpec&) = default;
};

sandbox::WorkerPolicy PolicyOf(const WorkerSpec& spec);

class WorkerPool : public std::enable_shared_from_this<WorkerPool> {
 public:
  // From SIGTERM to SIGKILL.
  static constexpr std::chrono::milliseconds kEndTimeout{5'000};

  // `where` is the command's place in the configuration, for the log. `changed` is called when
  // gone() has changed.
  WorkerPool(const asio::any_io_executor& executor, WorkerSpec spec, std::string where,
             std::shared_ptr<Queue> queue, std::function<void()> changed);

  void Start();

  const WorkerSpec& spec() const { return spec_; }
  const std::shared_ptr<Queue>& queue() const { return queue_; }
  struct WorkerState {
    pid_t pid;
    Clock::time_point started;
  };
  std::vector<WorkerState> running() const;
  uint64_t restarts() const { return restarts_; }  // of workers that ended by themselves

  bool gone() const { return stopping_ && running_slots_ == 0 && !waiting_for_demand_; }

  // No worker is started from now on; those that run get SIGTERM after `delay`, and SIGKILL later.
  // A second call can only make it sooner.
  void Stop(std::chrono::milliseconds delay);
  // SIGKILL to all.
  void Kill();

 private:
  // One of the `count` places for a worker.
  struct Slot {
    explicit Slot(const asio::any_io_executor& executor) : wake(executor) {}
    Event wake;                             // ends the pause before a restart
    Clock::time_point started;              // of `process`
    std::shared_ptr<ChildProcess> process;  // null while none runs
    Backoff backoff;
  };

  asio::awaitable<void> RunOnDemand();
  void StartSlots();
  asio::awaitable<void> RunSlot(Slot& slot);
  // True if the worker ended by its own will, with status 0.
  asio::awaitable<bool> RunWorker(Slot& slot);
  asio::awaitable<void> EndWorkers();
  absl::StatusOr<Process> SpawnWorker() const;
  bool QueueIsGood();
  void Changed();
  void SignalAll(int signal) const;

  asio::any_io_executor executor_;
  const WorkerSpec spec_;
  const std::string where_;
  const std::shared_ptr<Queue> queue_;
  const std::function<void()> changed_;
  UniqueFd demand_descriptor_;
  std::unique_ptr<Watch> demand_;  // of it
  Event idle_;                     // all slots have ended
  Event end_wait_;                 // something in gone() has changed
  std::vector<std::unique_ptr<Slot>> slots_;
  size_t running_slots_ = 0;
  bool waiting_for_demand_ = false;
  Clock::time_point end_at_ = Clock::time_point::max();
  bool stopping_ = false;
  bool queue_lost_ = false;
  uint64_t restarts_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKERS_H_
