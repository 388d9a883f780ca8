// SPDX-License-Identifier: Apache-2.0
// The supervisor's end of the ring into which a program reports that a test has started.

#ifndef TLSBROKER_TESTS_TESTLIB_REPORTS_H_
#define TLSBROKER_TESTS_TESTLIB_REPORTS_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "protocol/ring.h"
#include "protocol/supervision.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::testlib {

class Reports {
 public:
  Reports() : reader_(ring::Mapping(ring_.memory.get())) {}

  // For the program's table of descriptors (broker/support/descriptors.h).
  int bell() const { return ring_.bell.get(); }
  int memory() const { return ring_.memory.get(); }

  // The program's next message; nullopt if none comes in this time, if the program has ended
  // without one, or if its report is no valid message.
  std::optional<supervision::Message> Next(pid_t pid, int timeout_ms) {
    const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    for (bool last = false;; last = true) {
      ring::Silence(bell());
      const ring::Result result = reader_.Next();
      if (result == ring::Result::kOk) return supervision::Decode(reader_.message(), {});
      if (result != ring::Result::kWouldBlock || last) return std::nullopt;
      pollfd polled[] = {{bell(), POLLIN, 0}, {process.get(), POLLIN, 0}};
      (void)poll(polled, 2, timeout_ms);
    }
  }

 private:
  // The numbers are above those that these descriptors get in the program.
  static ring::Ring Make() {
    const ring::Ring ring = ring::Make();
    return {UniqueFd(fcntl(ring.memory.get(), F_DUPFD_CLOEXEC, 10)),
            UniqueFd(fcntl(ring.bell.get(), F_DUPFD_CLOEXEC, 10))};
  }

  ring::Ring ring_ = Make();
  ring::Reader reader_;
};

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_REPORTS_H_
