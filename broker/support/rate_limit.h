// SPDX-License-Identifier: Apache-2.0
// Limits how often something may happen a second, and how often at once. Used by keyholder,
// handshaker and logger.

#ifndef TLSBROKER_BROKER_SUPPORT_RATE_LIMIT_H_
#define TLSBROKER_BROKER_SUPPORT_RATE_LIMIT_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tlsbroker {

// Lets `burst` requests through at once and `per_second` in the long run (the generic cell rate
// algorithm: one time stamp, nothing that ticks).
class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;
  RateLimit(uint32_t per_second, uint32_t burst)
      : interval_(std::chrono::duration_cast<Clock::duration>(std::chrono::seconds(1)) /
                  per_second),
        tolerance_(interval_ * (burst - 1)) {}

  bool Take(Clock::time_point now) {
    const Clock::time_point due = std::max(next_, now);
    if (due - now > tolerance_) return false;
    next_ = due + interval_;
    return true;
  }

 private:
  Clock::duration interval_;
  Clock::duration tolerance_;
  Clock::time_point next_;  // when the bucket is full again
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_RATE_LIMIT_H_
