// SPDX-License-Identifier: Apache-2.0
// What a logger is told, and says (message.h).

#ifndef TLSBROKER_PROTOCOL_LOGGER_MESSAGES_H_
#define TLSBROKER_PROTOCOL_LOGGER_MESSAGES_H_

#include <cstdint>
#include <string>

#include "protocol/modes.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervision {

// To a logger; fd 0 of the message: the reading end of a pipe, non-blocking, that a process writes
// its log into. The supervisor keeps a copy, for the next logger.
struct LogSource {
  static constexpr uint8_t kType = 32;
  using Kind = LogSourceKind;
  uint32_t id = 0;
  Kind kind = Kind::kRole;
  // Stands in front of each line. Ends with ": ", except for kWorkers, where another tag follows.
  std::string tag;
  UniqueFd pipe;
};

// The process that wrote there has ended: what is in the pipe is the last of it, even if processes
// that it started still have the other end.
struct LogEnd {
  static constexpr uint8_t kType = 33;
  uint32_t id = 0;
};

// From a logger: somebody holds the lock of this pipe again and again, which takes the logger's
// time.
struct LogHeld {
  static constexpr uint8_t kType = 35;
  uint32_t id = 0;
};

// fd 0 of the message: where all lines go, from now on.
struct LogOutput {
  static constexpr uint8_t kType = 34;
  bool priorities = false;  // sd-daemon(3)'s "<N>" in front of lines
  bool socket = false;      // write with send(2), which alone need not block
  UniqueFd fd;
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_LOGGER_MESSAGES_H_
