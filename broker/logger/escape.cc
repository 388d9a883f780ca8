// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/escape.h"

#include <cstdint>
#include <cstdio>

namespace tlsbroker::logger {
namespace {

// The first character of a text. Its size is 0 if the text does not begin with valid UTF-8.
struct Character {
  size_t size = 0;
  uint32_t code = 0;
};

size_t SizeByFirstByte(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

Character First(std::string_view text) {
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};  // by size: no overlong form
  const auto first = static_cast<uint8_t>(text[0]);
  const size_t size = SizeByFirstByte(first);
  if (size == 0 || size > text.size()) return {};
  if (size == 1) return {1, first};
  uint32_t code = first & (0x7fU >> size);
  for (size_t i = 1; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if ((byte & 0xc0) != 0x80) return {};
    code = code << 6 | (byte & 0x3fU);
  }
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code < kSmallest[size] || surrogate || code > 0x10ffff) return {};
  return {size, code};
}

bool IsShownAsItIs(uint32_t code) {
  if (code == '\t') return true;
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return false;
  const bool separator = code == 0x2028 || code == 0x2029;
  const bool direction = code == 0x061c || code == 0x200e || code == 0x200f ||
                         (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  return !separator && !direction;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<uint8_t>(byte));
    out += escaped;
  }
  return out;
}

}  // namespace

Escaped Escape(std::string_view text, size_t room) {
  Escaped out;
  while (!text.empty()) {
    const Character character = First(text);
    const std::string_view bytes = text.substr(0, character.size == 0 ? 1 : character.size);
    const bool as_it_is = character.size > 0 && IsShownAsItIs(character.code);
    const std::string piece = as_it_is ? std::string(bytes) : Hex(bytes);
    if (out.text.size() + piece.size() > room) {
      out.whole = false;
      break;
    }
    out.text += piece;
    text.remove_prefix(bytes.size());
  }
  return out;
}

}  // namespace tlsbroker::logger
