// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/system_call_table.h"

#include <algorithm>
#include <fstream>

namespace tlsbroker {
namespace {

constexpr std::string_view kHeading = "## System calls";

std::vector<std::string> Cells(std::string_view line) {
  std::vector<std::string> cells;
  line.remove_prefix(1);
  for (size_t end; (end = line.find('|')) != std::string_view::npos; line.remove_prefix(end + 1)) {
    cells.emplace_back(line.substr(0, end));
  }
  return cells;
}

std::vector<std::string> Quoted(std::string_view cell) {
  std::vector<std::string> words;
  for (size_t begin; (begin = cell.find('`')) != std::string_view::npos;) {
    cell.remove_prefix(begin + 1);
    const size_t end = std::min(cell.find('`'), cell.size());
    words.emplace_back(cell.substr(0, end));
    cell.remove_prefix(std::min(end + 1, cell.size()));
  }
  return words;
}

std::string Name(std::string cell) {
  std::erase(cell, '`');
  const size_t first = cell.find_first_not_of(' ');
  return first == std::string::npos ? ""
                                    : cell.substr(first, cell.find_last_not_of(' ') + 1 - first);
}

Calls CallsOf(std::string_view cell) {
  const auto words = Quoted(cell);
  return {words.begin(), words.end()};
}

}  // namespace

bool TableRow::IsOf(std::string_view function) const {
  return std::any_of(functions.begin(), functions.end(), [&](std::string_view pattern) {
    if (!pattern.ends_with('*')) return function == pattern;
    pattern.remove_suffix(1);
    return function.starts_with(pattern);
  });
}

std::vector<TableRow> ReadSystemCallTable(const std::string& path) {
  std::vector<TableRow> table;
  std::ifstream file(path);
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) inside = line == kHeading;
    if (!inside || !line.starts_with("|")) continue;
    const auto cells = Cells(line);
    if (cells.size() != 3 || cells[0].starts_with(" ---")) continue;
    table.push_back({Name(cells[0]), Quoted(cells[0]), CallsOf(cells[1]), CallsOf(cells[2])});
  }
  if (!table.empty()) table.erase(table.begin());  // the names of the columns
  return table;
}

const TableRow* FindRow(const std::vector<TableRow>& table, std::string_view name) {
  for (const TableRow& row : table) {
    if (row.name == name) return &row;
  }
  // An exact name has precedence over a pattern.
  for (const TableRow& row : table) {
    if (std::find(row.functions.begin(), row.functions.end(), name) != row.functions.end()) {
      return &row;
    }
  }
  for (const TableRow& row : table) {
    if (row.IsOf(name)) return &row;
  }
  return nullptr;
}

}  // namespace tlsbroker
