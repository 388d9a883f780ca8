// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/diagnostics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"

namespace tlsbroker::supervisor {
namespace {

std::string Sentence(std::string_view wrong, std::string_view right) {
  return log::Printable(std::string(wrong) + "; " + std::string(right));
}

}  // namespace

void Diagnostics::Error(Position position, std::string_view wrong, std::string_view right) {
  errors_.push_back({Sentence(wrong, right), position});
}

void Diagnostics::Warning(Position position, std::string_view wrong, std::string_view right) {
  warnings_.push_back({Sentence(wrong, right), position});
}

std::string Diagnostics::Where(Position position) const {
  return absl::StrCat(file_, ":", position.line, ":", position.column);
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
