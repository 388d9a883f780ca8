// SPDX-License-Identifier: Apache-2.0
// Runs an event loop in a test: until something is true, or until nothing is left to do. Neither
// depends on how fast the machine is. Test only.

#ifndef TLSBROKER_TESTS_UNIT_LOOP_H_
#define TLSBROKER_TESTS_UNIT_LOOP_H_

#include <asio/io_context.hpp>
#include <chrono>

namespace tlsbroker::testlib {

// Runs until the condition is true; false if that does not happen in time. The condition is checked
// after every event.
template <typename Condition>
bool RunUntil(asio::io_context& io, Condition condition,
              std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    io.restart();
    io.run_one_for(std::chrono::milliseconds(20));
  }
  return true;
}

// Runs until no event is ready and no handler waits for its turn; does not wait for timers. What
// came over a socket of this machine before the call has been dealt with after it.
inline void RunAllThatIsReady(asio::io_context& io) {
  do io.restart();
  while (io.poll() > 0);
}

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_UNIT_LOOP_H_
