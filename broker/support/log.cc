#include "broker/support/log.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>

namespace tlsbroker::log {
namespace {

std::string& Program() {
  static std::string* program = new std::string("tlsbroker");
  return *program;
}
Level g_level = Level::kInfo;
bool g_prefix = false;

void Write(Level level, std::string_view text) {
  if (level > g_level) return;
  std::string line;
  line.reserve(text.size() + Program().size() + 8);
  if (g_prefix) line += "<" + std::to_string(static_cast<int>(level)) + ">";
  line += Program();
  line += ": ";
  line += text;
  line += '\n';
  // A log that cannot be written must not stop the broker.
  [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

Level InheritedLevel() {
  const char* text = std::getenv(kLevelVariable);
  if (text == nullptr || text[0] < '3' || text[0] > '7' || text[1] != '\0') return Level::kInfo;
  return static_cast<Level>(text[0] - '0');
}

void Init(std::string_view program, Level level) {
  Program() = program;
  g_level = level;
  g_prefix = isatty(STDERR_FILENO) == 0;
}

Level level() { return g_level; }

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
