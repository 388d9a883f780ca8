// Runs an event loop in a test until something is true. Test only.

#ifndef TLSBROKER_TESTS_UNIT_SUPERVISOR_LOOP_H_
#define TLSBROKER_TESTS_UNIT_SUPERVISOR_LOOP_H_

#include <asio/io_context.hpp>
#include <chrono>

namespace tlsbroker::supervisor {

// False if it has not become true in time. The condition is looked at after every event.
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

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_TESTS_UNIT_SUPERVISOR_LOOP_H_
