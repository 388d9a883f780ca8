// SPDX-License-Identifier: Apache-2.0
// How many handshakers a service needs: one at rest, more while all of them are busy, up to its
// maximum, fewer again when fewer can do the work. Runs in the supervisor.
//
// A handshaker is busy if it has used most of a processor since its last heartbeat, or if its event
// loop has made a timer wait: then connections wait, too, in the accept queue of the listener. When
// all have been busy for two looks in a row (1 s) one more is started. When one less could do what
// all have done for twenty looks (10 s) and still have half of its time left, the newest is told to
// accept no more; it leaves when the last of its relayed connections has ended.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SCALE_H_
#define TLSBROKER_BROKER_SUPERVISOR_SCALE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "protocol/role_messages.h"

namespace tlsbroker::supervisor {

class Scale {
 public:
  static constexpr uint32_t kBusyPermille = 600;
  static constexpr uint32_t kBusyLagMs = 20;
  static constexpr int kBusyLooks = 2;
  static constexpr int kCalmLooks = 20;
  static constexpr uint32_t kCalmPermille = 500;

  // Returns the number that is wanted from now on. To be called every RoleProcess::kLookPeriod,
  // with the heartbeats of the handshakers that serve; nothing is changed while their number is not
  // the wanted one.
  uint32_t Next(const std::vector<supervision::Heartbeat>& beats, uint32_t min, uint32_t max) {
    wanted_ = std::clamp(wanted_, min, std::max(min, max));
    if (beats.size() != wanted_) {
      busy_ = calm_ = 0;
      return wanted_;
    }
    const auto is_busy = [](const supervision::Heartbeat& beat) {
      return beat.busy_permille >= kBusyPermille || beat.lag_ms >= kBusyLagMs;
    };
    uint64_t used = 0;
    for (const auto& beat : beats) used += beat.busy_permille;
    busy_ = std::ranges::all_of(beats, is_busy) ? busy_ + 1 : 0;
    const bool calm =
        std::ranges::none_of(beats, is_busy) && used <= uint64_t{wanted_ - 1} * kCalmPermille;
    calm_ = calm ? calm_ + 1 : 0;
    if (busy_ >= kBusyLooks && wanted_ < max) {
      ++wanted_;
      busy_ = 0;
    } else if (calm_ >= kCalmLooks && wanted_ > min) {
      --wanted_;
      calm_ = 0;
    }
    return wanted_;
  }

  uint32_t wanted() const { return wanted_; }

 private:
  uint32_t wanted_ = 1;
  int busy_ = 0;
  int calm_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SCALE_H_
