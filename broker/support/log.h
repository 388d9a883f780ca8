// SPDX-License-Identifier: Apache-2.0
// Log lines, one write(2) each. Text that a peer chose goes through Field() or Printable(), so that
// no line can be forged. Used by every process of the broker and by the tools that are workers.
//
// A process of the broker writes into a pipe that a logger reads (broker/logger/), which puts the
// process' name in front. The tools, and the supervisor before a logger runs, write to standard
// error with their name, and with the "<N>" priority of sd-daemon(3) in front when that is no
// terminal. Nobody waits: a line for which there is no room is lost, and counted.

#ifndef TLSBROKER_BROKER_SUPPORT_LOG_H_
#define TLSBROKER_BROKER_SUPPORT_LOG_H_

#include <string>
#include <string_view>

namespace tlsbroker::log {

enum class Level { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

// The supervisor tells its children their level in this environment variable, as a number.
inline constexpr char kLevelVariable[] = "TLSBROKER_LOG_LEVEL";
Level InheritedLevel();  // kInfo without it

// Lines go to standard error. `program` starts every one ("tlsbrokerd", "exec"). Lines above
// `level` are not written.
void Init(std::string_view program, Level level = InheritedLevel());
// Standard error is a pipe to a logger. Ignores SIGPIPE: no process ends because nobody reads its
// log.
void InitBehindLogger(Level level = InheritedLevel());
Level level();
void SetLevel(Level level);  // also in a process that is confined

// From now on lines go into this pipe to a logger, or to this descriptor with the program's name in
// front. Both borrow the descriptor.
void UseLogger(int pipe);
void UseDescriptor(int fd);

void Error(std::string_view text);
void Warning(std::string_view text);
void Notice(std::string_view text);
void Info(std::string_view text);
void Debug(std::string_view text);

// Control characters, DEL, non-ASCII bytes and backslash as \xHH.
std::string Printable(std::string_view text);

// " key=value", the value quoted when it holds a space, '=' or '"', and always printable. An empty
// value is "-".
std::string Field(std::string_view key, std::string_view value);

}  // namespace tlsbroker::log

#endif  // TLSBROKER_BROKER_SUPPORT_LOG_H_
