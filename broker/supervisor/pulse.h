// SPDX-License-Identifier: Apache-2.0
// Whether the event loop of a process turns, by the heartbeats that it sends every
// kHeartbeatPeriod, and by what the kernel says of it when none come. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PULSE_H_
#define TLSBROKER_BROKER_SUPERVISOR_PULSE_H_

#include <sys/types.h>

#include <chrono>
#include <optional>

#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/process_state.h"
#include "protocol/message.h"

namespace tlsbroker::supervisor {

class Pulse {
 public:
  // The time from the start to the first heartbeat.
  static constexpr std::chrono::milliseconds kStart{60'000};
  // How often to look at the process.
  static constexpr std::chrono::milliseconds kLookPeriod = supervision::kHeartbeatPeriod;
  // When three heartbeats are missing the process hangs. With the look after that, and the start of
  // another process, it is replaced within 3 s.
  static constexpr std::chrono::milliseconds kSilence = 3 * supervision::kHeartbeatPeriod;
  // A silent process that uses this much processor time is busy with something that never ends, and
  // does not just wait for a processor. If it has a processor for itself, it has used that 2 s
  // after its last heartbeat.
  static constexpr std::chrono::milliseconds kSpinning{900};
  // A process that uses a little of a processor now and then hangs when it is silent for this long.
  static constexpr std::chrono::milliseconds kSlow{10'000};

  void Beat() {
    begun_ = true;
    last_ = Clock::now();
    suspect_.reset();
  }
  Clock::time_point last() const { return last_; }

  // To be called every kLookPeriod; true once the process hangs.
  bool Hangs(pid_t pid, Clock::time_point now);
  // Whether a process hangs that is silent for kSilence or longer. `suspect` is the state that was
  // found up to half a second before.
  static bool HangsBy(const ProcessState& suspect, const ProcessState& state,
                      Clock::duration silence);

 private:
  bool begun_ = false;
  Clock::time_point last_ = Clock::now();  // or the start
  Clock::time_point last_look_;
  std::optional<ProcessState> suspect_;  // as it was found when it was silent for the first time
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PULSE_H_
