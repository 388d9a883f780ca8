// SPDX-License-Identifier: Apache-2.0
// How long to wait before something that ended is started again: 100 ms, doubling to 10 s, and from
// the beginning after it ran for 30 s. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_BACKOFF_H_
#define TLSBROKER_BROKER_SUPERVISOR_BACKOFF_H_

#include <algorithm>
#include <chrono>
#include <utility>

namespace tlsbroker::supervisor {

class Backoff {
 public:
  static constexpr std::chrono::milliseconds kFirst{100};
  static constexpr std::chrono::milliseconds kLongest{10'000};
  static constexpr std::chrono::milliseconds kStable{30'000};

  // `ran` is how long it lived this time.
  std::chrono::milliseconds Next(std::chrono::steady_clock::duration ran) {
    if (ran >= kStable) next_ = kFirst;
    return std::exchange(next_, std::min(2 * next_, kLongest));
  }

 private:
  std::chrono::milliseconds next_ = kFirst;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_BACKOFF_H_
