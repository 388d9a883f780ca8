// The workers of one service: started as configured, each with the receiving end of the service's
// queue, watched, and started again when they end. Connections meanwhile wait in the queue, of
// which the supervisor keeps a copy. Runs in the supervisor, which reads nothing that a worker
// writes.
//
// SIGTERM asks a worker to take no more connections, finish those it has, and end (PROTOCOL.md
// section 1.2). Whether it has any only the worker knows, so one that was told to end because
// nothing arrived is given all the time it wants, beside its place, which is free for another one.

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
  std::chrono::milliseconds idle_timeout{0};  // on demand only; 0: none
  friend bool operator==(const WorkerSpec&, const WorkerSpec&) = default;
};

sandbox::WorkerPolicy PolicyOf(const WorkerSpec& spec);

class WorkerPool : public std::enable_shared_from_this<WorkerPool> {
 public:
  // From SIGTERM to another one, which says that it is urgent; at the broker's end.
  static constexpr std::chrono::milliseconds kFinishTimeout{2'000};
  // From that one to SIGKILL.
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
    bool draining;
  };
  std::vector<WorkerState> running() const;
  uint64_t restarts() const { return restarts_; }  // of workers that ended by themselves

  bool gone() const {
    return stopping_ && busy() == 0 && draining_.empty() && !waiting_for_demand_;
  }

  // The handshakers' count of connections that went through the queue. Any change of it is a sign
  // of use; it begins anew with each generation.
  void NoteHandOffs(uint64_t count);

  // No worker is started from now on; those that run get SIGTERM after `delay`, another one after
  // `finish` more, and SIGKILL later. A second call can only make it sooner.
  void Stop(std::chrono::milliseconds delay, std::chrono::milliseconds finish = kFinishTimeout);
  // SIGKILL to all.
  void Kill();

 private:
  // One of the `count` places for a worker, or what was one until its worker was told to end.
  struct Slot {
    explicit Slot(const asio::any_io_executor& executor) : wake(executor) {}
    bool busy = false;  // a worker runs, or is to be started again
    bool draining = false;
    Event wake;                             // ends the pause before a restart
    Clock::time_point started;              // of `process`
    std::shared_ptr<ChildProcess> process;  // null while none runs
    Backoff backoff;
  };

  asio::awaitable<void> RunOnDemand();
  asio::awaitable<void> FollowDemand();
  asio::awaitable<bool> KeepWaiting();
  asio::awaitable<void> EndIdle();
  void Drain();
  size_t busy() const;
  bool StartFreeSlot();
  asio::awaitable<void> RunSlot(std::shared_ptr<Slot> slot);
  // True if the worker ended by its own will, with status 0.
  asio::awaitable<bool> RunWorker(Slot& slot);
  asio::awaitable<void> EndWorkers();
  absl::StatusOr<Process> SpawnWorker() const;
  bool QueueIsGood();
  void Changed();
  asio::awaitable<void> UntilGone(const Clock::time_point& deadline);
  static void Signal(const std::vector<std::shared_ptr<Slot>>& slots, int signal);

  asio::any_io_executor executor_;
  const WorkerSpec spec_;
  const std::string where_;
  const std::shared_ptr<Queue> queue_;
  const std::function<void()> changed_;
  UniqueFd demand_descriptor_;
  std::unique_ptr<Watch> demand_;                // of it
  Event demand_pause_;                           // notified when no slot is busy any more
  Event use_;                                    // a worker was started on demand
  Event end_wait_;                               // something in gone() has changed
  std::vector<std::shared_ptr<Slot>> slots_;     // `count`
  std::vector<std::shared_ptr<Slot>> draining_;  // no more than that
  Clock::time_point newest_started_;             // of the worker that was started last
  size_t newest_found_ = 0;                      // how many connections waited for it
  bool newest_took_ = false;  // it has taken one, as far as can be seen from here
  bool waiting_for_demand_ = false;
  uint64_t handed_off_ = 0;
  Clock::time_point last_use_;
  Clock::time_point end_at_ = Clock::time_point::max();
  Clock::time_point urge_at_ = Clock::time_point::max();
  bool stopping_ = false;
  bool queue_lost_ = false;
  uint64_t restarts_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKERS_H_
