// SPDX-License-Identifier: Apache-2.0
// Where all lines go: the broker's standard error, whatever that is, or the pipe to another logger.
// While the output takes no lines, they wait here, within limits, and nobody else waits. No error
// of the output is final: a reader that went away may come back, and a full disk may get room. Runs
// in the logger.

#ifndef TLSBROKER_BROKER_LOGGER_OUTPUT_H_
#define TLSBROKER_BROKER_LOGGER_OUTPUT_H_

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>

#include "protocol/logger_messages.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::logger {

using Clock = std::chrono::steady_clock;

// How much of one sender, or of several together, may wait. The waiting lines share this object,
// since they may outlive their senders.
struct Share {
  size_t limit = 0;
  bool from_workers = false;
  size_t waiting = 0;
};

class Output {
 public:
  // How many bytes may wait in all, including what it costs to keep a line. The lines of workers
  // get no more than half, so that they leave room for what the broker says.
  static constexpr size_t kMaxWaiting = 1 << 20;
  static constexpr size_t kMaxFromWorkers = kMaxWaiting / 2;
  static constexpr size_t kLineOverhead = 64;
  // The time from an error to the next try.
  static constexpr std::chrono::milliseconds kRetry{1'000};

  // From now on lines go to `output`. A line that was half written is written again from its
  // beginning.
  void Use(supervision::LogOutput output);
  bool priorities() const { return priorities_; }

  // Returns false, and does not take the line, if there is no room for it. `line` is at most
  // PIPE_BUF bytes.
  [[nodiscard]] bool Add(std::string line, const std::shared_ptr<Share>& share);

  // Writes as much as can be written without waiting, and no more than kTurn, since the senders
  // have to be read, too.
  void Write(Clock::time_point now);

  bool empty() const { return lines_.empty() && chunk_.empty(); }
  // What to wait for until Write() has something to do, besides the time of the next try.
  pollfd Awaited() const;
  Clock::time_point next_try() const { return next_try_; }

 private:
  static constexpr size_t kTurn = 256 * 1024;

  struct Line {
    std::string text;
    std::shared_ptr<Share> share;
  };

  void FillChunk();
  // Writes some of chunk_; returns -1 and sets errno if it fails.
  ssize_t WriteOnce();

  UniqueFd fd_;
  bool priorities_ = false;
  bool socket_ = false;
  std::deque<Line> lines_;
  size_t waiting_ = 0;
  size_t from_workers_ = 0;
  std::string chunk_;   // whole lines that are written next: up to PIPE_BUF bytes
  size_t written_ = 0;  // how much of it
  Clock::time_point next_try_ = Clock::time_point::min();
};

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_OUTPUT_H_
