// SPDX-License-Identifier: Apache-2.0
// The table of system calls in client-lib/README.md. The tests take it from there, so that the page
// and the library cannot differ.

#ifndef TLSBROKER_TESTS_UNIT_SYSTEM_CALL_TABLE_H_
#define TLSBROKER_TESTS_UNIT_SYSTEM_CALL_TABLE_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker {

// As they are written: "recvmsg", "fcntl(F_GETFL)".
using Calls = std::set<std::string>;

struct TableRow {
  std::string name;                    // the first cell, without its backquotes
  std::vector<std::string> functions;  // the names in backquotes in that cell; may end in "*"
  Calls always;
  Calls direct;  // additionally in direct mode

  bool IsOf(std::string_view function) const;
};

// Empty if the page has no such table.
std::vector<TableRow> ReadSystemCallTable(const std::string& path);

// The row with that name, or with that function; null if there is none.
const TableRow* FindRow(const std::vector<TableRow>& table, std::string_view name);

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_SYSTEM_CALL_TABLE_H_
