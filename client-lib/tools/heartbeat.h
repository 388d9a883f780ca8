// SPDX-License-Identifier: Apache-2.0
// Tells the supervisor twice a second that the event loop of this process turns, by an eventfd(2)
// whose number is in the environment. A process that was started by hand has none. Runs in
// `tlsbroker exec` and `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_HEARTBEAT_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_HEARTBEAT_H_

#include <chrono>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class Heartbeat {
 public:
  using Clock = std::chrono::steady_clock;

  // Removes the variable from the environment, and makes the descriptor close-on-exec.
  static Heartbeat FromEnvironment();

  // When the next one is due; never without a supervisor.
  Clock::time_point due() const { return counter_ ? due_ : Clock::time_point::max(); }
  // The time until then in milliseconds, for poll(2); -1 for never.
  int TimeLeft() const;
  // Sends one if it is due.
  void Beat();
  // For a forked child, which does not speak for its parent.
  void Forget() { counter_.Reset(); }

 private:
  UniqueFd counter_;
  Clock::time_point due_{};
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_HEARTBEAT_H_
