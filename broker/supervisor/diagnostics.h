// SPDX-License-Identifier: Apache-2.0
// What is wrong with a configuration, as "file:line:column: what is wrong; what would be right".
// Collected rather than returned one by one, so that an administrator sees all of it at once. Runs
// in the supervisor; the administrator is trusted, the text is still made printable.

#ifndef TLSBROKER_BROKER_SUPERVISOR_DIAGNOSTICS_H_
#define TLSBROKER_BROKER_SUPERVISOR_DIAGNOSTICS_H_

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker::supervisor {

// A place in the configuration; both numbers count from 1, columns in characters. Places are
// ordered as the files are read.
struct Position {
  uint32_t line = 1;
  uint32_t column = 1;
  std::shared_ptr<const std::string> file = nullptr;  // in conf.d; null: the main file
  friend bool operator==(const Position& a, const Position& b) { return (a <=> b) == 0; }
  friend std::strong_ordering operator<=>(const Position& a, const Position& b);
};

// A value and where it was written, for what can only be found wrong later.
template <typename T>
struct At {
  T value{};
  Position position;
};

class Diagnostics {
 public:
  // `file` is the main one.
  explicit Diagnostics(std::string file) : file_(std::move(file)) {}

  void Error(const Position& position, std::string_view wrong, std::string_view right);
  void Warning(const Position& position, std::string_view wrong, std::string_view right);

  bool failed() const { return !errors_.empty(); }
  const std::string& file() const { return file_; }

  // "file:line:column".
  std::string Where(const Position& position) const;

  // In the order of the files.
  std::vector<std::string> errors() const { return Lines(errors_); }
  std::vector<std::string> warnings() const { return Lines(warnings_); }

 private:
  using List = std::vector<At<std::string>>;
  std::vector<std::string> Lines(const List& list) const;

  std::string file_;
  List errors_;
  List warnings_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_DIAGNOSTICS_H_
