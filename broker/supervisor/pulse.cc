// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/pulse.h"

#include <utility>

namespace tlsbroker::supervisor {

bool Pulse::Hangs(pid_t pid, Clock::time_point now) {
  // If this process was held up itself, it has not yet read what came meanwhile.
  const bool late = now - std::exchange(last_look_, now) > 2 * kLookPeriod;
  // A process may take long to start, unless somebody has stopped it (state T).
  if (!begun_) {
    if (now - last_ > kStart) return true;
    const auto state = ReadProcessState(pid);
    if (!state || state->state != 'T') return false;
  }
  if (late || now - last_ < kSilence - kLookPeriod) return false;
  const auto state = ReadProcessState(pid);
  if (!suspect_) suspect_ = state;
  if (now - last_ < kSilence) return false;
  return !state || !suspect_ || HangsBy(*suspect_, *state, now - last_);
}

bool Pulse::HangsBy(const ProcessState& suspect, const ProcessState& state,
                    Clock::duration silence) {
  const auto used = state.cpu_time - suspect.cpu_time;
  switch (state.state) {
    case 't':  // a debugger holds it
      return false;
    case 'R':  // it runs, or waits for a processor
      return used >= kSpinning;
    default:
      // It sleeps, is stopped, or its state is hidden. If the loop turns slowly, since the machine
      // is overloaded, it uses a little of a processor between the waits.
      return used == used.zero() || used >= kSpinning || silence >= kSlow;
  }
}

}  // namespace tlsbroker::supervisor
