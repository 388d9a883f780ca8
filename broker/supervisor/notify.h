// SPDX-License-Identifier: Apache-2.0
// Tells the service manager how the broker is: the protocol of sd_notify(3) without its library.
// Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_
#define TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace tlsbroker::supervisor {

class Notifier {
 public:
  // Takes NOTIFY_SOCKET and the WATCHDOG_ variables out of the environment. Without the first
  // nothing is ever sent.
  Notifier();

  // How often KeepAlive() is expected, if it is (sd_watchdog_enabled(3)): half of WATCHDOG_USEC.
  std::optional<std::chrono::microseconds> watchdog_period() const { return watchdog_period_; }
  void KeepAlive() const;

  // `status` becomes one line, of bounded length. May be said again with another one.
  void Ready(std::string_view status) const;
  // The start is not over, and may take `longer` from now on.
  void Starting(std::string_view status, std::chrono::microseconds longer) const;
  void Reloading() const;
  // `longest`: how long it may take until this process has ended. The service manager ends a
  // service that takes longer than it was told (TimeoutStopSec=, EXTEND_TIMEOUT_USEC=).
  void Stopping(std::chrono::microseconds longest) const;

 private:
  void Send(const std::string& state) const;

  std::string socket_;
  std::optional<std::chrono::microseconds> watchdog_period_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_
