// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/sender.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "broker/support/report.h"

namespace tlsbroker::logger {
namespace {

using Kind = supervision::LogSource::Kind;

constexpr int kInfo = 6;     // for a line that has no priority
constexpr int kWarning = 4;  // for the message that lines are lost

// Whoever has the writing end can hold the pipe's lock (broker/supervisor/log_sources.h). So the
// supervisor is told in which pipe this process is, in case it hangs there.
class InPipe {
 public:
  explicit InPipe(uint32_t id) { ReportDoing(uint64_t{id} + 1); }
  InPipe(const InPipe&) = delete;
  InPipe& operator=(const InPipe&) = delete;
  ~InPipe() { ReportDoing(0); }
};

}  // namespace

Sender::Limits Sender::LimitsOf(Kind kind) {
  switch (kind) {
    case Kind::kRole:
      // Enough for one line for each connection of a handshaker that is fully busy.
      return {.lines_per_second = 10'000, .burst = 10'000, .waiting = 256 * 1024};
    case Kind::kWorkers:
      // Enough for ten workers at their own limits.
      return {.lines_per_second = 10'000, .burst = 20'000, .waiting = 128 * 1024};
    case Kind::kWorker:
      break;
  }
  // More than a program writes when all is well, and enough for a log with one line for each
  // request.
  return {.lines_per_second = 1'000, .burst = 2'000, .waiting = 64 * 1024};
}

Share Sender::ShareOf(Kind kind) {
  return {.limit = LimitsOf(kind).waiting, .from_workers = kind != Kind::kRole};
}

Sender::Sender(supervision::LogSource source, std::shared_ptr<Share> share)
    : source_(std::move(source)),
      limits_(LimitsOf(source_.kind)),
      rate_(limits_.lines_per_second, limits_.burst),
      share_(std::move(share)) {}

Sender::~Sender() {
  const InPipe in_pipe(source_.id);
  source_.pipe.Reset();
}

Sender::ReadResult Sender::ReadOnce(Clock::time_point now, Output& output) {
  char buffer[kTurn];
  const Clock::time_point begun = Clock::now();
  ssize_t n;
  do {
    const InPipe in_pipe(source_.id);
    n = read(source_.pipe.get(), buffer, sizeof(buffer));
  } while (n < 0 && errno == EINTR);
  const int error = errno;
  NoteTime(begun);
  if (n < 0 && error == EAGAIN) return ReadResult::kNothing;
  if (n <= 0) return ReadResult::kEnd;
  splitter_.Add({buffer, static_cast<size_t>(n)},
                [&](std::string_view line, bool whole) { TakeLine(line, whole, now, output); });
  return ReadResult::kSome;
}

void Sender::NoteTime(Clock::time_point begun) {
  const Clock::time_point now = Clock::now();
  read_share_ = std::max(read_share_, now) + kShare * (now - begun);
  if (held_ == Held::kNo && read_share_ - now > kShare * kPatience) held_ = Held::kYes;
}

bool Sender::Read(Clock::time_point now, Output& output) {
  return ReadOnce(now, output) != ReadResult::kEnd;
}

void Sender::ReadRest(Clock::time_point now, Output& output) {
  for (size_t read = 0; read < kRest; read += kTurn) {
    if (ReadOnce(now, output) != ReadResult::kSome) return;
  }
}

void Sender::TakeLine(std::string_view line, bool whole, Clock::time_point now, Output& output) {
  const int priority = TakePriority(line, kInfo);
  if (!rate_.Take(now)) {
    ++too_many_;
    return;
  }
  SayLost(now, output);  // before the first line that is not lost
  std::string text = FormatLine(output.priorities(), priority, source_.tag, line, whole);
  if (!output.Add(std::move(text), share_)) ++no_room_;
}

void Sender::SayLost(Clock::time_point now, Output& output) {
  if (too_many_ + no_room_ == 0 || now < next_say_) return;
  const std::string limit = std::to_string(limits_.lines_per_second);
  const bool said = Say(too_many_, "more than " + limit + " a second", output) &&
                    Say(no_room_, "the log is read too slowly", output);
  if (said) next_say_ = now + kLossPeriod;
}

bool Sender::Say(uint64_t& lost, const std::string& why, Output& output) {
  if (lost == 0) return true;
  // The tag of kWorkers has no ": ": it stands in front of the tags that the service's own logger
  // gives.
  const char* separator = source_.kind == Kind::kWorkers ? ": " : "";
  const std::string text = separator + std::to_string(lost) + " lines lost (" + why + ")";
  std::string line = FormatLine(output.priorities(), kWarning, source_.tag, text, true);
  if (!output.Add(std::move(line), share_)) return false;
  lost = 0;
  return true;
}

uint64_t Sender::End(Clock::time_point now, Output& output) {
  splitter_.End([&](std::string_view line, bool whole) { TakeLine(line, whole, now, output); });
  next_say_ = Clock::time_point::min();
  SayLost(now, output);
  return too_many_ + no_room_;
}

}  // namespace tlsbroker::logger
