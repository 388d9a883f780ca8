// The running broker: one current generation and the workers of every service, replaced on reload
// and when something ends, and ended in order. Runs in tlsbrokerd and is all that it does after its
// start; nothing here reads what a network peer or a worker wrote.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SUPERVISOR_H_
#define TLSBROKER_BROKER_SUPERVISOR_SUPERVISOR_H_

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "broker/supervisor/attach.h"
#include "broker/supervisor/backoff.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/generation.h"
#include "broker/supervisor/notify.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/status_report.h"
#include "broker/supervisor/status_socket.h"
#include "broker/supervisor/ticket_keys.h"
#include "broker/supervisor/workers.h"

namespace tlsbroker::supervisor {

class Supervisor {
 public:
  Supervisor(Setup setup, InheritedSockets inherited);

  // Until it is told to stop. Returns the exit status.
  int Run();

 private:
  enum class Stop { kNo, kDrain, kNow };

  asio::awaitable<void> FollowSignals();
  // Tells the service manager that this event loop turns.
  asio::awaitable<void> FeedWatchdog();
  asio::awaitable<void> Live();
  asio::awaitable<void> Serve();
  asio::awaitable<void> End();

  // Makes a new generation the current one; on failure nothing has changed but the log and
  // failure_. `setup` has to live as long as the caller waits.
  asio::awaitable<bool> StartGeneration(const std::shared_ptr<const Setup>& setup);
  void ReportFailure(const Generation& generation, const absl::Status& started);
  void Fail(std::vector<std::string> errors);
  asio::awaitable<void> Replace(std::shared_ptr<Generation> next);
  void Retire(std::shared_ptr<Generation> generation);
  asio::awaitable<void> Restart();
  asio::awaitable<void> Reload();
  asio::awaitable<bool> TryReload();
  void Adopt(std::shared_ptr<const Setup> setup);
  void UpdateWorkers(const Setup& setup);
  void UpdateAttachPoints(const Setup& setup);
  absl::Status OpenStatusSocket();
  std::string Status() const;
  void RemovePool(std::shared_ptr<WorkerPool> pool);
  void RotateTicketKeys();
  void Sweep();
  // Workers learn from the handshakers' counters that connections go to them.
  void NoteHandOffs();
  void KillAll();
  void CloseListeners();

  bool stopping() const { return stop_ != Stop::kNo; }
  bool AllGenerations(bool (Generation::*state)() const) const;
  bool AllPoolsGone() const;

  // Until the condition holds or the deadline has passed.
  template <typename Condition>
  asio::awaitable<void> Until(Condition condition,
                              Clock::time_point deadline = Clock::time_point::max());

  asio::io_context io_{1};
  asio::signal_set signals_;
  Event wake_;
  const Notifier notifier_;
  const Programs programs_;
  InheritedSockets inherited_;
  TicketKeyRing ticket_keys_;
  Clock::time_point next_rotation_ = Clock::time_point::min();

  std::shared_ptr<const Setup> setup_;
  uint32_t generations_ = 0;
  Clock::time_point last_start_;
  Backoff backoff_;
  std::shared_ptr<Generation> current_;
  std::vector<std::shared_ptr<Generation>> retired_;
  std::map<std::string, std::shared_ptr<WorkerPool>> pools_;  // by service
  std::vector<std::shared_ptr<WorkerPool>> old_pools_;
  std::map<std::string, std::shared_ptr<AttachPoint>> attach_points_;  // by service
  std::unique_ptr<StatusSocket> status_socket_;

  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  const sandbox::Machine machine_ = sandbox::Machine::Inspect();
  uint64_t reloads_ = 0;  // that have begun
  std::optional<LastReload> last_reload_;
  std::vector<std::string> failure_;  // why the last generation or reload has not come to be

  bool reload_ = false;
  Stop stop_ = Stop::kNo;
  int start_failure_ = 0;  // the exit status, should this have been the first start
  int exit_status_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SUPERVISOR_H_
