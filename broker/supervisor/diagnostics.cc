// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/diagnostics.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"

namespace tlsbroker::supervisor {
namespace {

std::string Sentence(std::string_view wrong, std::string_view right) {
  return log::Printable(std::string(wrong) + "; " + std::string(right));
}

}  // namespace

std::strong_ordering operator<=>(const Position& a, const Position& b) {
  const auto file = [](const Position& position) {
    return position.file ? std::string_view(*position.file) : std::string_view();
  };
  return std::tuple(file(a), a.line, a.column) <=> std::tuple(file(b), b.line, b.column);
}

void Diagnostics::Error(const Position& position, std::string_view wrong, std::string_view right) {
  errors_.push_back({Sentence(wrong, right), position});
}

void Diagnostics::Warning(const Position& position, std::string_view wrong,
                          std::string_view right) {
  warnings_.push_back({Sentence(wrong, right), position});
}

std::string Diagnostics::Where(const Position& position) const {
  return absl::StrCat(log::Printable(position.file ? *position.file : file_), ":", position.line,
                      ":", position.column);
}

std::vector<std::string> Diagnostics::Lines(const List& list) const {
  List sorted = list;
  std::ranges::stable_sort(sorted, {}, &At<std::string>::position);
  std::vector<std::string> lines;
  for (const auto& [text, position] : sorted) {
    lines.push_back(absl::StrCat(Where(position), ": ", text));
  }
  return lines;
}

}  // namespace tlsbroker::supervisor
