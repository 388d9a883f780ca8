// SPDX-License-Identifier: Apache-2.0
// The lines of one sender: found in what comes out of its pipe, and written down with its name in
// front. Runs in the logger, on bytes of a worker or of a process of the broker that may have been
// taken over.

#ifndef TLSBROKER_BROKER_LOGGER_LINE_H_
#define TLSBROKER_BROKER_LOGGER_LINE_H_

#include <limits.h>

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace tlsbroker::logger {

class LineSplitter {
 public:
  // The rest of a longer line is dropped.
  static constexpr size_t kMaxLine = 4096;
  // Gets a line without its line end, and whether that is all of the line. Empty lines are left
  // out.
  using Take = std::function<void(std::string_view line, bool whole)>;

  // The next bytes of the stream. `take` is called for every line that ends in them.
  void Add(std::string_view bytes, const Take& take);
  // Says that the stream has ended: what has come of an unfinished line counts as a line.
  void End(const Take& take);

 private:
  void Keep(std::string_view piece);

  std::string line_;  // what has come of the current line
  bool whole_ = true;
};

// Removes <0> to <7>, as in sd-daemon(3), from the start of a line and returns it as a number;
// without one it returns `otherwise`. Never returns less than kMostUrgent: 0 to 2 (emerg, alert,
// crit) reach every terminal of the machine.
inline constexpr int kMostUrgent = 3;
int TakePriority(std::string_view& line, int otherwise);

// One line of output: "<N>" if `priorities`, tag, text, end of line. At most PIPE_BUF bytes, so
// that one write(2) puts it into a pipe whole, beside those of other writers. `text` is escaped;
// the tag comes from the supervisor and stays as it is. If `whole` is false, or the text is cut
// here, the line says so.
inline constexpr size_t kMaxOutputLine = PIPE_BUF;
std::string FormatLine(bool priorities, int priority, std::string_view tag, std::string_view text,
                       bool whole);

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_LINE_H_
