// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/line.h"

#include <algorithm>

#include "broker/logger/escape.h"

namespace tlsbroker::logger {
namespace {

constexpr std::string_view kCut = " [cut]";

void Give(std::string_view line, bool whole, const LineSplitter::Take& take) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (!line.empty()) take(line, whole);
}

}  // namespace

void LineSplitter::Add(std::string_view bytes, const Take& take) {
  for (;;) {
    const size_t end = bytes.find('\n');
    Keep(bytes.substr(0, end));
    if (end == std::string_view::npos) return;
    Give(line_, whole_, take);
    line_.clear();
    whole_ = true;
    bytes.remove_prefix(end + 1);
  }
}

void LineSplitter::Keep(std::string_view piece) {
  const size_t room = kMaxLine - line_.size();
  whole_ = whole_ && piece.size() <= room;
  line_ += piece.substr(0, room);
}

void LineSplitter::End(const Take& take) {
  Give(line_, whole_, take);
  line_.clear();
  whole_ = true;
}

int TakePriority(std::string_view& line, int otherwise) {
  if (line.size() < 3 || line[0] != '<' || line[1] < '0' || line[1] > '7' || line[2] != '>')
    return otherwise;
  const int priority = line[1] - '0';
  line.remove_prefix(3);
  return std::max(priority, kMostUrgent);
}

std::string FormatLine(bool priorities, int priority, std::string_view tag, std::string_view text,
                       bool whole) {
  std::string line;
  if (priorities) line = "<" + std::to_string(priority) + ">";
  line += tag;
  const size_t taken = line.size() + kCut.size() + 1;
  const Escaped escaped = Escape(text, kMaxOutputLine - std::min(taken, kMaxOutputLine));
  line += escaped.text;
  if (!whole || !escaped.whole) line += kCut;
  line += '\n';
  return line;
}

}  // namespace tlsbroker::logger
