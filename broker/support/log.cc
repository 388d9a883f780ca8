// SPDX-License-Identifier: Apache-2.0
#include "broker/support/log.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace tlsbroker::log {
namespace {

constexpr std::string_view kCut = " [cut]";

struct State {
  std::string program = "tlsbroker";  // not written if behind_logger
  Level level = Level::kInfo;
  bool behind_logger = false;
  bool priorities = false;
  int fd = STDERR_FILENO;
  uint64_t lost = 0;  // lines, since the last one that was written
};

State& Log() {
  static State* state = new State;
  return *state;
}

std::string Line(Level level, std::string_view text) {
  const State& log = Log();
  std::string line;
  line.reserve(text.size() + log.program.size() + 8);
  if (log.priorities) line += "<" + std::to_string(static_cast<int>(level)) + ">";
  if (!log.behind_logger) line += log.program + ": ";
  line += text;
  // A pipe may take a longer line in parts, among other lines.
  if (line.size() >= PIPE_BUF) line.replace(PIPE_BUF - 1 - kCut.size(), std::string::npos, kCut);
  line += '\n';
  return line;
}

bool WriteLine(const std::string& line) {
  // Standard error may block those who write to it.
  pollfd room{Log().fd, POLLOUT, 0};
  if (!Log().behind_logger && poll(&room, 1, 0) == 0) return false;
  ssize_t n;
  do {
    n = write(Log().fd, line.data(), line.size());
  } while (n < 0 && errno == EINTR);
  return n == static_cast<ssize_t>(line.size());
}

// A log that cannot be written must not stop the broker.
void Write(Level level, std::string_view text) {
  State& log = Log();
  if (level > log.level) return;
  if (log.lost > 0) {
    const std::string count = std::to_string(log.lost);
    if (WriteLine(Line(Level::kWarning, count + " lines lost (the log had no room)"))) log.lost = 0;
  }
  if (log.lost > 0 || !WriteLine(Line(level, text))) ++log.lost;
}

}  // namespace

Level InheritedLevel() {
  const char* text = std::getenv(kLevelVariable);
  if (text == nullptr || text[0] < '3' || text[0] > '7' || text[1] != '\0') return Level::kInfo;
  return static_cast<Level>(text[0] - '0');
}

void Init(std::string_view program, Level level) {
  Log() = {.program = std::string(program), .level = level};
  UseDescriptor(STDERR_FILENO);
}

void InitBehindLogger(Level level) {
  Log() = {.level = level};
  UseLogger(STDERR_FILENO);
  signal(SIGPIPE, SIG_IGN);
}

Level level() { return Log().level; }

void SetLevel(Level level) { Log().level = level; }

void UseLogger(int pipe) {
  Log().fd = pipe;
  Log().behind_logger = true;
  Log().priorities = isatty(pipe) == 0;  // no if the program was started by hand
}

void UseDescriptor(int fd) {
  Log().fd = fd;
  Log().behind_logger = false;
  Log().priorities = isatty(fd) == 0;
}

void Error(std::string_view text) { Write(Level::kError, text); }
void Warning(std::string_view text) { Write(Level::kWarning, text); }
void Notice(std::string_view text) { Write(Level::kNotice, text); }
void Info(std::string_view text) { Write(Level::kInfo, text); }
void Debug(std::string_view text) { Write(Level::kDebug, text); }

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out += c;
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", byte);
    out += escaped;
  }
  return out;
}

std::string Field(std::string_view key, std::string_view value) {
  std::string out = " ";
  out += key;
  out += '=';
  if (value.empty()) return out + "-";
  const std::string printable = Printable(value);
  if (printable.find_first_of(" =\"") == std::string::npos) return out + printable;
  out += '"';
  for (const char c : printable) {
    if (c == '"') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace tlsbroker::log
