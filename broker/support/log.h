// Log lines on stderr, one write(2) each, with the "<N>" priority of sd-daemon(3) in front when
// stderr is not a terminal. Text that a peer chose goes through Field() or Printable(), so that no
// line can be forged. Used by every process of the broker.

#ifndef TLSBROKER_BROKER_SUPPORT_LOG_H_
#define TLSBROKER_BROKER_SUPPORT_LOG_H_

#include <string>
#include <string_view>

namespace tlsbroker::log {

enum class Level { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

// The supervisor tells its children their level in this environment variable, as a number.
inline constexpr char kLevelVariable[] = "TLSBROKER_LOG_LEVEL";
Level InheritedLevel();  // kInfo without it

// `program` starts every line ("tlsbrokerd", "handshaker[0]"). Lines above `level` are not written.
void Init(std::string_view program, Level level = InheritedLevel());
Level level();

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
