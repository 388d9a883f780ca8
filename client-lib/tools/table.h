// Tables for people.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_

#include <string>
#include <vector>

namespace tlsbroker::tools {

using Row = std::vector<std::string>;

// Columns as wide as their widest cell, two spaces between, a line each.
std::string Align(const std::vector<Row>& rows);

// For a terminal: what is not printable ASCII becomes '?'.
std::string Printable(std::string text);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_TABLE_H_
