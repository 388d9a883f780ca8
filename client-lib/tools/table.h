// SPDX-License-Identifier: Apache-2.0
// Tables for people.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_

#include <string>
#include <vector>

namespace tlsbroker::tools {

using Row = std::vector<std::string>;

// Makes columns as wide as their widest cell, with two spaces between, and a line for each row.
std::string Align(const std::vector<Row>& rows);

// For a terminal: what is not printable ASCII becomes '?'.
std::string Printable(std::string text);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_
