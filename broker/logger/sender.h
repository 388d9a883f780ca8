// SPDX-License-Identifier: Apache-2.0
// One process whose log comes through a pipe, or another logger: its name, its limits, and how many
// of its lines were lost. Runs in the logger; trusts nobody but the supervisor, which gave the
// name.

#ifndef TLSBROKER_BROKER_LOGGER_SENDER_H_
#define TLSBROKER_BROKER_LOGGER_SENDER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "broker/logger/line.h"
#include "broker/logger/output.h"
#include "broker/support/rate_limit.h"
#include "protocol/logger_messages.h"

namespace tlsbroker::logger {

class Sender {
 public:
  // How much a sender may write, by its kind.
  struct Limits {
    uint32_t lines_per_second;
    uint32_t burst;  // lines
    size_t waiting;  // bytes, while the output does not take them
  };
  static Limits LimitsOf(supervision::LogSource::Kind kind);
  static Share ShareOf(supervision::LogSource::Kind kind);

  // The time from one message about lost lines to the next.
  static constexpr std::chrono::seconds kLossPeriod{1};

  // `share` counts what waits of this sender, and perhaps of others.
  Sender(supervision::LogSource source, std::shared_ptr<Share> share);
  ~Sender();

  uint32_t id() const { return source_.id; }
  int pipe() const { return source_.pipe.get(); }

  // Reads what is there, but no more than kTurn bytes, whether or not the output takes it. Returns
  // false at the end of the pipe, when nobody is left who could write.
  bool Read(Clock::time_point now, Output& output);
  // For a process that has ended: reads what is in the pipe now, which is all that counts.
  void ReadRest(Clock::time_point now, Output& output);
  // Writes what there is of a last line, and how many lines were lost. Returns how many lost lines
  // could not be reported for want of room.
  uint64_t End(Clock::time_point now, Output& output);
  // True once, when reading takes too long. The pipe does not block, so then somebody holds its
  // lock.
  bool TakeHeld() {
    if (held_ != Held::kYes) return false;
    held_ = Held::kSaid;
    return true;
  }
  // Writes how many lines were lost, if there are any and it is time.
  void SayLost(Clock::time_point now, Output& output);

 private:
  // How much is read at once: no more lines than the output keeps of a worker.
  static constexpr size_t kTurn = 4 * 1024;
  // A pipe holds no more than this (/proc/sys/fs/pipe-max-size) unless root made it larger.
  static constexpr size_t kRest = 1 << 20;

  // Reading a pipe may take a tenth of the time in the long run, and this much at once. A process
  // that writes holds the lock as well, and has to wait for a processor now and then.
  static constexpr std::chrono::milliseconds kPatience{500};
  static constexpr int kShare = 10;

  enum class ReadResult { kSome, kNothing, kEnd };
  enum class Held { kNo, kYes, kSaid };
  void NoteTime(Clock::time_point begun);
  ReadResult ReadOnce(Clock::time_point now, Output& output);
  void TakeLine(std::string_view line, bool whole, Clock::time_point now, Output& output);
  bool Say(uint64_t& lost, const std::string& why, Output& output);

  supervision::LogSource source_;
  const Limits limits_;
  LineSplitter splitter_;
  RateLimit rate_;
  std::shared_ptr<Share> share_;
  uint64_t too_many_ = 0;  // lines beyond the rate that are not reported yet
  uint64_t no_room_ = 0;   // lines that found no room in the output
  Clock::time_point next_say_ = Clock::time_point::min();
  Clock::time_point read_share_;  // when all the time spent reading will be a tenth
  Held held_ = Held::kNo;
};

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_SENDER_H_
