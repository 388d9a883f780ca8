// SPDX-License-Identifier: Apache-2.0
// One service, whole: its keyholder and handshakers, generation after generation, its workers, its
// listeners, queue, tickets, counters. A service is a small broker of its own; what happens to one
// stays in it, and the supervisor has as many of these as there are services. Runs in the
// supervisor.
//
// A state machine: Step() does what is due, after each change and twice a second.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SERVICE_BROKER_H_
#define TLSBROKER_BROKER_SUPERVISOR_SERVICE_BROKER_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/supervisor/attach.h"
#include "broker/supervisor/backoff.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/generation.h"
#include "broker/supervisor/logs.h"
#include "broker/supervisor/path_identities.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/scale.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/ticket_keys.h"
#include "broker/supervisor/workers.h"

namespace tlsbroker::supervisor {

class ServiceBroker : public std::enable_shared_from_this<ServiceBroker> {
 public:
  // When there are this many processes that the kernel cannot end, no more are started until some
  // are gone.
  static constexpr size_t kMaxLeftBehind = 8;

  // `changed` is called after every change of what the functions below tell. Programs and logs
  // outlive it.
  ServiceBroker(const asio::any_io_executor& executor, std::string name, const Programs& programs,
                Logs& logs, std::function<void()> changed);

  // Takes a new setup, the first one or that of a reload. If it needs other processes than those
  // that run, they are started beside them. Then the supervisor decides for all services together.
  void Propose(std::shared_ptr<const ServiceSetup> setup);
  enum class Proposal { kPending, kReady, kFailed };
  Proposal proposal() const;
  // Why the proposal failed.
  std::vector<std::string> ProposalErrors(bool& blames_config) const;
  // Puts the proposed setup in force, except for its listeners, which wait until all services have
  // closed those that they do not have any more. Returns true if there are new processes.
  bool Adopt();
  // Lets the new processes begin to accept when the old ones have closed the listeners.
  void StartListening();
  bool settled() const { return !last_ && (!attach_point_ || attach_point_->porter()->settled()); }
  void Withdraw();

  // Ends the service for good: its handshakers finish; then its workers see the end of their queue,
  // or get the signal. `removed`: a reload has removed the service, and its workers may take as
  // long as the drain does. Otherwise the broker ends, and the keyholders stay until
  // EndKeyholders().
  void End(bool removed);
  void EndKeyholders();
  // SIGKILL to all.
  void Kill();
  bool handshakers_gone() const;
  bool workers_gone() const;
  bool gone() const;  // nothing is left but what cannot be ended

  // To be called every RoleProcess::kLookPeriod.
  void Look(Clock::time_point now);

  const std::string& name() const { return name_; }
  const std::shared_ptr<const ServiceSetup>& setup() const { return setup_; }  // in force; or null
  // The addresses that it cannot listen on yet, each with the reason and the time.
  std::vector<std::string> WaitsFor(Clock::time_point now) const;
  const char* state() const;  // "starting", "serving", "waiting", "stopped", "ending"
  const Generation* current() const { return current_.get(); }
  supervision::Counters counters() const;  // since the broker's start
  std::string last_reason() const { return current_ ? current_->last_reason() : ""; }
  std::vector<std::shared_ptr<const RoleProcess>> processes() const;
  size_t left_behind() const;
  uint64_t hung() const;
  const WorkerPool* workers() const { return pool_.get(); }
  const AttachPoint* attach_point() const { return attach_point_.get(); }
  const std::vector<std::shared_ptr<Porter>>& porters() const { return porters_; }

 private:
  std::shared_ptr<Generation> NewGeneration(std::shared_ptr<const ServiceSetup> setup);
  void Changed();
  void WakeAt(Clock::time_point time);
  void Step();
  void StepTakeOver(Clock::time_point now);
  void StepRestart(Clock::time_point now);
  bool RenewQueue();
  void KillSuccessor();
  void StepHandshakers(Clock::time_point now);
  void StepDemand(Clock::time_point now);
  void StepEnd();
  void DropUntaken(Clock::time_point now);
  void Sweep();
  void TakeOver(std::shared_ptr<Generation> next);
  void AcceptAfterLast();
  void Accept();
  void Retire(std::shared_ptr<Generation> generation, std::chrono::milliseconds deadline);
  void MendListeners();
  void LogMissing(const std::vector<MissingListener>& missing, Clock::time_point now);
  void RotateTicketKeys(Clock::time_point now);
  void UpdateWorkers();
  bool WorkerPathsChanged(const PathIdentities& found) const;
  void UpdateAttachPoint();
  asio::awaitable<void> AwaitDemand();
  asio::awaitable<void> NoteDemand(Watch& watch);
  void StopAwaitingDemand();
  bool on_demand() const { return setup_->config.start == StartWhen::kOnDemand; }
  uint32_t WantedHandshakers(const ServiceSetup& setup) const;

  asio::any_io_executor executor_;
  const std::string name_;
  const Programs& programs_;
  Logs& logs_;
  const std::function<void()> changed_;
  bool step_is_due_ = false;
  asio::steady_timer timer_{executor_};  // for the next Step() that nothing else causes
  TicketKeyRing ticket_keys_;
  Clock::time_point next_rotation_ = Clock::time_point::min();

  std::shared_ptr<const ServiceSetup> setup_;
  std::string fingerprint_;  // of the current generation's setup
  std::shared_ptr<const ServiceSetup> proposed_;
  std::shared_ptr<Generation> candidate_;  // of the proposal; null if none is needed
  absl::Status candidate_error_;
  uint32_t generations_ = 0;

  std::shared_ptr<Generation> current_;    // null before the first, and while nobody asks for it
  std::shared_ptr<Generation> successor_;  // for a current one that is broken
  std::shared_ptr<Generation> last_;  // has to close the listeners before the current one accepts
  Clock::time_point let_go_until_;
  std::vector<std::shared_ptr<Generation>> retired_;
  supervision::Counters past_;  // of generations that have ended
  uint64_t past_hung_ = 0;

  Backoff backoff_;  // of generations
  Clock::time_point last_start_;
  Clock::time_point restart_at_ = Clock::time_point::min();
  Backoff handshaker_backoff_;
  Clock::time_point last_handshaker_;
  Clock::time_point next_handshaker_ = Clock::time_point::min();
  Scale scale_;
  bool stopped_ = false;   // too much was left behind
  bool outdated_ = false;  // the current generation is not of the setup in force

  bool demanded_ = false;
  bool awaits_demand_ = false;
  std::unique_ptr<Event> demand_;  // while it awaits some
  std::vector<std::unique_ptr<Watch>> demand_watches_;
  uint64_t used_ = 0;  // the requests and connections counted at the last look
  Clock::time_point last_use_;
  uint32_t untaken_ = 0;             // at the end: how many connections wait in the queue,
  Clock::time_point untaken_since_;  // and since when no worker has taken one

  struct WaitedFor {
    Clock::time_point since;
    Clock::time_point next_line;  // of the log
    std::string why;
  };
  std::map<std::string, WaitedFor> waited_for_;  // by address

  std::shared_ptr<WorkerPool> pool_;
  PathIdentities worker_paths_;  // of `pool_`, when it began
  std::vector<std::shared_ptr<WorkerPool>> old_pools_;
  std::unique_ptr<AttachPoint> attach_point_;
  std::vector<std::shared_ptr<Porter>> porters_;  // of this one, and those that are to end
  enum class Ending { kNo, kRemoved, kHandshakers, kWorkers };
  Ending ending_ = Ending::kNo;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SERVICE_BROKER_H_
