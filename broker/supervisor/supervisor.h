// SPDX-License-Identifier: Apache-2.0
// The running broker: its services, started together, replaced on reload as far as they have
// changed, and ended in order. Runs in tlsbrokerd and is all that it does after its start; nothing
// here reads what a network peer or a worker wrote, and nothing waits for anything that they could
// hold up.

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

#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/logs.h"
#include "broker/supervisor/notify.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/service_broker.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/status_report.h"
#include "broker/supervisor/status_socket.h"

namespace tlsbroker::supervisor {

class Supervisor {
 public:
  Supervisor(Setup setup, InheritedSockets inherited);

  // Runs until it is told to stop. Returns the exit status.
  int Run();

 private:
  enum class Stop { kNo, kDrain, kNow };
  using Services = std::map<std::string, std::shared_ptr<ServiceBroker>>;

  asio::awaitable<void> FollowSignals();
  // Tells the service manager that this event loop turns.
  asio::awaitable<void> FeedWatchdog();
  // Looks at all processes for those that hang.
  asio::awaitable<void> LookAtProcesses();
  asio::awaitable<void> Live();
  asio::awaitable<void> Serve();
  asio::awaitable<void> End();

  // Puts `setup` in force for all services or, if one of them cannot be as it says, for none: then
  // nothing has changed but the log and failure_.
  asio::awaitable<bool> Introduce(std::shared_ptr<const Setup> setup);
  asio::awaitable<bool> AwaitProposals(const Services& services);
  asio::awaitable<void> Adopt(std::shared_ptr<const Setup> setup, Services services);
  Setup InForce() const;
  std::shared_ptr<const Setup> OpenNext(Diagnostics& diagnostics) const;
  void Fail(std::vector<std::string> errors);
  asio::awaitable<void> Reload();
  asio::awaitable<bool> TryReload();
  asio::awaitable<bool> LookAtCertificates();
  // `previous` may be null.
  asio::awaitable<void> Inspect(const Setup& setup, const Setup* previous,
                                Diagnostics& diagnostics);
  void TellManager();
  void OpenStatusSocket();
  PorterStart PorterStartOf(const Setup& setup) const;
  std::string Status() const;
  // For the service manager.
  std::string StatusLine() const;
  void Sweep();

  bool stopping() const { return stop_ != Stop::kNo; }
  std::vector<std::shared_ptr<ServiceBroker>> AllServices() const;
  bool All(bool (ServiceBroker::*state)() const) const;

  // Waits until the condition holds or the deadline has passed.
  template <typename Condition>
  asio::awaitable<void> Until(Condition condition,
                              Clock::time_point deadline = Clock::time_point::max());

  asio::io_context io_{1};
  asio::signal_set signals_;
  Event wake_;
  const Notifier notifier_;
  const Programs programs_;
  Logs logs_;
  InheritedSockets inherited_;

  std::shared_ptr<const Setup> setup_;
  Services services_;
  Services introduced_;  // not in force yet, or about to get another setup
  std::vector<std::shared_ptr<ServiceBroker>> old_services_;  // that end
  bool serves_ = false;
  bool reloading_ = false;
  const Clock::time_point begun_ = Clock::now();
  bool start_over_ = false;  // as the service manager knows it
  std::string told_;         // to the service manager
  std::unique_ptr<StatusSocket> status_socket_;

  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  const sandbox::Machine machine_ = sandbox::Machine::Inspect();
  uint64_t reloads_ = 0;  // that have begun
  std::optional<LastReload> last_reload_;
  std::vector<std::string> started_services_;  // by the last setup that came into force
  std::vector<std::string> removed_services_;
  std::vector<std::string> failure_;  // why the last setup has not come into force

  bool reload_ = false;
  Stop stop_ = Stop::kNo;
  int start_failure_ = 0;  // the exit status, should this have been the first start
  int exit_status_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SUPERVISOR_H_
