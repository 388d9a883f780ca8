// SPDX-License-Identifier: Apache-2.0
// Typed access to one table of the configuration: every value carries its position, a wrong type is
// reported, and so is every key that nobody asked for. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONFIG_SECTION_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONFIG_SECTION_H_

#include <toml++/toml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

Position PositionOf(const toml::source_region& source);

class Section {
 public:
  // `title` is how messages name it: "[service.web]"; empty for the file itself. Borrows both.
  Section(const toml::table& table, std::string title, Diagnostics& diagnostics)
      : table_(table), title_(std::move(title)), diagnostics_(diagnostics) {}

  // Absent or of the wrong type (which is reported): nullopt. No string has a NUL byte.
  // `needed` is what an error asks for.
  std::optional<At<std::string>> String(std::string_view key, std::string_view needed = "a string");
  std::optional<At<uint32_t>> Number(std::string_view key, uint32_t min, uint32_t max);
  std::optional<At<bool>> Boolean(std::string_view key);
  // A list of one or more strings, none empty; what is wrong with an element is reported.
  std::optional<At<std::vector<At<std::string>>>> Strings(std::string_view key) {
    return List(key, /*with_empty=*/false);
  }
  // The same for a program and its arguments, which may be empty.
  std::optional<At<std::vector<At<std::string>>>> Command(std::string_view key) {
    return List(key, /*with_empty=*/true);
  }

  template <typename T>
  using Choices = std::vector<std::pair<std::string, T>>;
  template <typename T>
  std::optional<At<T>> OneOf(std::string_view key, const Choices<T>& choices);

  std::optional<Section> Table(std::string_view key);
  // A table whose keys are the configuration's own, and whose values are strings, also empty ones.
  std::vector<std::pair<At<std::string>, std::string>> Texts(std::string_view key);
  // The tables of a table of tables, [certificate.*], with the positions of their names.
  std::vector<std::pair<At<std::string>, Section>> Tables(std::string_view key);

  // If the table has nothing but a table, which has nothing but a table, and so on: ".their.names".
  std::string NameOfTables() const;

  // The value of a key that is there, of whatever type.
  At<int64_t> IntegerOr(std::string_view key, int64_t otherwise);
  bool Has(std::string_view key) const { return table_.contains(key); }
  const std::string& title() const { return title_; }
  Position position() const { return PositionOf(table_.source()); }

  // "'key' is missing in [title]; right".
  void Missing(std::string_view key, std::string_view right);
  // Reports the keys that were never asked for. To be called last.
  void Finish();

 private:
  const toml::node* Find(std::string_view key);
  void WrongType(std::string_view key, const toml::node& node, std::string_view needed);
  bool CheckText(std::string_view key, const toml::node& node, const std::string& text,
                 bool may_be_empty = false);
  // With `with_empty`, all strings but the first may be empty.
  std::optional<At<std::vector<At<std::string>>>> List(std::string_view key, bool with_empty);
  std::string Child(std::string_view key) const;
  std::optional<size_t> FindChoice(std::string_view key, const std::vector<std::string>& names,
                                   Position& position);

  const toml::table& table_;
  std::string title_;
  Diagnostics& diagnostics_;
  std::vector<std::string> known_;
};

template <typename T>
std::optional<At<T>> Section::OneOf(std::string_view key, const Choices<T>& choices) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  Position position;
  const auto index = FindChoice(key, names, position);
  if (!index) return std::nullopt;
  return At<T>{choices[*index].second, position};
}

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONFIG_SECTION_H_
