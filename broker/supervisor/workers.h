// SPDX-License-Identifier: Apache-2.0
// The workers of one service: started as configured, each with the receiving end of the service's
// queue, watched, and started again when they end. Connections meanwhile wait in the queue, of
// which the supervisor keeps a copy. Runs in the supervisor, which reads nothing that a worker
// writes.
//
// SIGTERM asks a worker to take no more connections, finish those it has, and end (PROTOCOL.md
// section 1.2). Only the worker knows whether it has any. So one that was told to end because
// nothing arrived may take all the time it wants, and its place is free for another worker
// meanwhile.

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
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/pulse.h"
#include "broker/supervisor/queue.h"

namespace tlsbroker::supervisor {

// The settings of a service's workers. A reload that changes any of them starts the workers anew.
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
  std::string directory;  // to work in; empty: the root
  bool private_tmp = false;
  bool core_dumps = false;
  sandbox::WorkerProfile profile = sandbox::WorkerProfile::kDefault;
  sandbox::WorkerLimits limits;
  uint32_t count = 1;
  bool on_demand = false;
  std::chrono::milliseconds idle_timeout{0};  // on demand only; 0: none
  bool beats = false;                         // it sends heartbeats (support/heartbeat_variable.h)
  friend bool operator==(const WorkerSpec&, const WorkerSpec&) = default;

  // What the configuration names, as it is when a worker is started.
  std::vector<std::string> paths() const;
};

sandbox::WorkerPolicy PolicyOf(const WorkerSpec& spec);

class WorkerPool : public std::enable_shared_from_this<WorkerPool> {
 public:
  // At the broker's end: the time from SIGTERM to a second one, which says that it is urgent.
  static constexpr std::chrono::milliseconds kFinishTimeout{2'000};
  // The time from the second one to SIGKILL.
  static constexpr std::chrono::milliseconds kEndTimeout{5'000};
  // The time from SIGKILL to being left behind.
  static constexpr std::chrono::milliseconds kReapTimeout{2'000};

  // `where` is the command's place in the configuration, for the log. `changed` is called when
  // gone() has changed. The workers write their log into `log`; to our standard error without.
  WorkerPool(const asio::any_io_executor& executor, WorkerSpec spec, std::string where,
             std::shared_ptr<Queue> queue, std::function<void()> changed,
             std::shared_ptr<LogSources> log = nullptr);

  void Start();

  void SetWhere(std::string where) { where_ = std::move(where); }
  const WorkerSpec& spec() const { return spec_; }
  const std::shared_ptr<Queue>& queue() const { return queue_; }
  struct WorkerState {
    pid_t pid;
    Clock::time_point started;
    bool draining;
  };
  std::vector<WorkerState> running() const;
  uint64_t restarts() const { return restarts_; }  // of workers that ended by themselves

  // No worker is left, or only such that the kernel cannot end.
  bool gone() const {
    return left_behind_ || (stopping_ && busy() == 0 && draining_.empty() && !waiting_for_demand_);
  }

  // The handshakers' count of connections that went through the queue. Any change of it is a sign
  // of use; it begins anew with each generation.
  void NoteHandOffs(uint64_t count);

  // No worker is started from now on; those that run get SIGTERM after `delay`, another one after
  // `finish` more, and SIGKILL later. A second call can only make it sooner.
  void Stop(std::chrono::milliseconds delay, std::chrono::milliseconds finish = kFinishTimeout);
  // SIGKILL to all.
  void Kill();
  // Looks for workers that send heartbeats and hang. To be called every Pulse::kLookPeriod.
  void Look(Clock::time_point now);
  uint64_t hung() const { return hung_; }  // so far

 private:
  // One of the `count` places for a worker, or what was one until its worker was told to end.
  struct Slot {
    explicit Slot(const asio::any_io_executor& executor) : wake(executor) {}
    bool busy = false;  // a worker runs, or is to be started again
    bool draining = false;
    Event wake;                 // ends the pause before a restart
    Clock::time_point started;  // of `process`
    UniqueFd heartbeats;        // an eventfd to which the worker adds
    Pulse pulse;
    bool hung = false;
    std::shared_ptr<ChildProcess> process;  // null while none runs
    std::unique_ptr<LogPipe> log;           // of `process`
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
  // True if the worker ended by itself, with status 0.
  asio::awaitable<bool> RunWorker(Slot& slot);
  asio::awaitable<void> EndWorkers();
  asio::awaitable<absl::StatusOr<Process>> SpawnWorker(Slot& slot) const;
  bool QueueIsGood();
  void Changed();
  asio::awaitable<void> UntilGone(const Clock::time_point& deadline);
  static void Signal(const std::vector<std::shared_ptr<Slot>>& slots, int signal);

  asio::any_io_executor executor_;
  const WorkerSpec spec_;
  std::string where_;
  const std::shared_ptr<Queue> queue_;
  const std::function<void()> changed_;
  const std::shared_ptr<LogSources> log_;
  std::unique_ptr<Watch> demand_;                // of the queue
  Event demand_pause_;                           // notified when no slot is busy any more
  Event use_;                                    // a worker was started on demand
  Event end_wait_;                               // something in gone() has changed
  std::vector<std::shared_ptr<Slot>> slots_;     // `count`
  std::vector<std::shared_ptr<Slot>> draining_;  // no more than `count`
  Clock::time_point newest_started_;             // of the worker that was started last
  size_t newest_found_ = 0;                      // how many connections waited for it
  bool newest_took_ = false;  // it has taken one, as far as can be seen from here
  bool waiting_for_demand_ = false;
  uint64_t handed_off_ = 0;
  Clock::time_point last_use_;
  Clock::time_point end_at_ = Clock::time_point::max();
  Clock::time_point urge_at_ = Clock::time_point::max();
  bool stopping_ = false;
  bool left_behind_ = false;
  bool queue_lost_ = false;
  uint64_t restarts_ = 0;
  uint64_t hung_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_WORKERS_H_
