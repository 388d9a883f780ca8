// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/config_section.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/support/closest.h"

namespace tlsbroker::supervisor {
namespace {

std::string Quoted(std::string_view key) { return "'" + std::string(key) + "'"; }

std::string TypeName(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

}  // namespace

Position PositionOf(const toml::source_region& source) {
  // Tables that no header names, and the file itself, have no position of their own.
  return {std::max<uint32_t>(source.begin.line, 1), std::max<uint32_t>(source.begin.column, 1),
          source.path};
}

const toml::node* Section::Find(std::string_view key) {
  known_.emplace_back(key);
  return table_.get(key);
}

At<int64_t> Section::IntegerOr(std::string_view key, int64_t otherwise) {
  const toml::node& node = *Find(key);
  return {node.value<int64_t>().value_or(otherwise), PositionOf(node.source())};
}

void Section::WrongType(std::string_view key, const toml::node& node, std::string_view needed) {
  diagnostics_.Error(PositionOf(node.source()), Quoted(key) + " is " + TypeName(node),
                     std::string(needed) + " is needed");
}

bool Section::CheckText(std::string_view key, const toml::node& node, const std::string& text,
                        bool may_be_empty) {
  if (text.empty() && !may_be_empty) {
    diagnostics_.Error(PositionOf(node.source()), Quoted(key) + " is empty",
                       "give it a value or leave it out");
    return false;
  }
  if (text.find('\0') != std::string::npos) {
    diagnostics_.Error(PositionOf(node.source()), Quoted(key) + " has a NUL character",
                       "text without it is needed");
    return false;
  }
  return true;
}

std::optional<At<std::string>> Section::String(std::string_view key, std::string_view needed) {
  const toml::node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const auto text = node->value_exact<std::string>();
  if (!text) {
    WrongType(key, *node, needed);
    return std::nullopt;
  }
  if (!CheckText(key, *node, *text)) return std::nullopt;
  return At<std::string>{*text, PositionOf(node->source())};
}

std::optional<At<uint32_t>> Section::Number(std::string_view key, uint32_t min, uint32_t max) {
  const toml::node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const auto value = node->value_exact<int64_t>();
  if (!value) {
    WrongType(key, *node, "an integer");
    return std::nullopt;
  }
  if (*value < min || *value > max) {
    diagnostics_.Error(PositionOf(node->source()), absl::StrCat(Quoted(key), " is ", *value),
                       absl::StrCat(min, " to ", max, " is possible"));
    return std::nullopt;
  }
  return At<uint32_t>{static_cast<uint32_t>(*value), PositionOf(node->source())};
}

std::optional<At<bool>> Section::Boolean(std::string_view key) {
  const toml::node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const auto value = node->value_exact<bool>();
  if (!value) {
    WrongType(key, *node, "true or false");
    return std::nullopt;
  }
  return At<bool>{*value, PositionOf(node->source())};
}

std::optional<At<std::vector<At<std::string>>>> Section::List(std::string_view key,
                                                              bool with_empty) {
  const toml::node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    WrongType(key, *node, "a list of strings");
    return std::nullopt;
  }
  At<std::vector<At<std::string>>> list{{}, PositionOf(node->source())};
  if (array->empty()) {
    diagnostics_.Error(list.position, Quoted(key) + " is an empty list",
                       "put something into it or leave it out");
    return std::nullopt;
  }
  for (const toml::node& element : *array) {
    const auto text = element.value_exact<std::string>();
    if (!text) {
      WrongType(key, element, "a list of strings");
    } else if (CheckText(key, element, *text, with_empty && &element != &array->front())) {
      list.value.push_back({*text, PositionOf(element.source())});
    }
  }
  return list;
}

std::optional<size_t> Section::FindChoice(std::string_view key,
                                          const std::vector<std::string>& names,
                                          Position& position) {
  const auto text = String(key);
  if (!text) return std::nullopt;
  position = text->position;
  const auto found = std::ranges::find(names, text->value);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  diagnostics_.Error(position, absl::StrCat(Quoted(key), " is \"", text->value, "\""),
                     absl::StrCat("one of \"", absl::StrJoin(names, "\", \""), "\" is needed"));
  return std::nullopt;
}

std::string Section::Child(std::string_view key) const {
  const std::string name(key);
  if (title_.empty()) return "[" + name + "]";
  return title_.substr(0, title_.size() - 1) + "." + name + "]";
}

std::optional<Section> Section::Table(std::string_view key) {
  const toml::node* node = Find(key);
  if (node == nullptr) return std::nullopt;
  const toml::table* table = node->as_table();
  if (table == nullptr) {
    WrongType(key, *node, "a table " + Child(key));
    return std::nullopt;
  }
  return Section(*table, Child(key), diagnostics_);
}

std::vector<std::pair<At<std::string>, Section>> Section::Tables(std::string_view key) {
  std::vector<std::pair<At<std::string>, Section>> sections;
  const auto parent = Table(key);
  if (!parent) return sections;
  for (const auto& [name, node] : parent->table_) {
    const std::string title = parent->Child(name.str());
    if (const toml::table* table = node.as_table()) {
      sections.emplace_back(At<std::string>{std::string(name.str()), PositionOf(name.source())},
                            Section(*table, title, diagnostics_));
    } else {
      diagnostics_.Error(PositionOf(name.source()), Quoted(name.str()) + " is " + TypeName(node),
                         "a table " + title + " is needed");
    }
  }
  return sections;
}

std::string Section::NameOfTables() const {
  std::string name;
  for (const toml::table* table = &table_; table->size() == 1;) {
    const auto only = table->begin();
    const toml::table* inner = only->second.as_table();
    if (inner == nullptr || inner->is_inline()) break;
    name += "." + std::string(only->first.str());
    table = inner;
  }
  return name;
}

std::vector<std::pair<At<std::string>, std::string>> Section::Texts(std::string_view key) {
  std::vector<std::pair<At<std::string>, std::string>> texts;
  const auto table = Table(key);
  if (!table) return texts;
  for (const auto& [name, node] : table->table_) {
    const auto text = node.value_exact<std::string>();
    if (!text) {
      WrongType(name.str(), node, "a string");
    } else if (CheckText(name.str(), node, *text, /*may_be_empty=*/true)) {
      texts.emplace_back(At<std::string>{std::string(name.str()), PositionOf(name.source())},
                         *text);
    }
  }
  return texts;
}

void Section::Missing(std::string_view key, std::string_view right) {
  diagnostics_.Error(position(), absl::StrCat(Quoted(key), " is missing in ", title_),
                     std::string(right));
}

void Section::Finish() {
  for (const auto& [key, node] : table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    const std::string where = title_.empty() ? "" : " in " + title_;
    const std::string closest = Closest(key.str(), known_);
    diagnostics_.Error(PositionOf(key.source()),
                       absl::StrCat("unknown key ", Quoted(key.str()), where),
                       closest.empty() ? "known are: " + absl::StrJoin(known_, ", ")
                                       : "did you mean '" + closest + "'?");
  }
}

}  // namespace tlsbroker::supervisor
