// SPDX-License-Identifier: Apache-2.0
// The examples of PROTOCOL.md, which are test vectors: blocks of a kind, each with lines "field:
// value", an empty line, and bytes in hexadecimal.

#ifndef TLSBROKER_TESTS_UNIT_PROTOCOL_PAGE_H_
#define TLSBROKER_TESTS_UNIT_PROTOCOL_PAGE_H_

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace tlsbroker::protocol_page {

struct Block {
  std::map<std::string, std::string> fields;  // fields that the page does not name are absent
  std::vector<uint8_t> bytes;
};

inline std::vector<uint8_t> ParseHex(const std::string& text) {
  std::vector<uint8_t> bytes;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string word; words >> word;) {
      if (word == "*") {  // "00 * 5"
        size_t times = 0;
        words >> times;
        bytes.insert(bytes.end(), times - 1, bytes.back());
      } else {
        bytes.push_back(static_cast<uint8_t>(std::stoul(word, nullptr, 16)));
      }
    }
  }
  return bytes;
}

// All blocks that begin with the line ```KIND.
inline std::vector<Block> ReadBlocks(const std::string& kind) {
  std::ifstream page(PROTOCOL_MD);
  std::vector<Block> blocks;
  for (std::string line; std::getline(page, line);) {
    if (line != "```" + kind) continue;
    Block block;
    while (std::getline(page, line) && !line.empty()) {
      const size_t colon = line.find(": ");
      block.fields[line.substr(0, colon)] = line.substr(colon + 2);
    }
    std::string hex;
    while (std::getline(page, line) && line != "```") hex += line + "\n";
    block.bytes = ParseHex(hex);
    blocks.push_back(std::move(block));
  }
  return blocks;
}

}  // namespace tlsbroker::protocol_page

#endif  // TLSBROKER_TESTS_UNIT_PROTOCOL_PAGE_H_
