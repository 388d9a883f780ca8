// SPDX-License-Identifier: Apache-2.0
#include "protocol/der.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace tlsbroker::der {
namespace {

constexpr uint8_t kLongForm = 0x1f;  // of the number in a tag
constexpr uint8_t kConstructed = 0x20;
constexpr uint8_t kEndOfContents = 0x00;
constexpr uint8_t kSequence = 0x30;
constexpr uint8_t kSet = 0x31;
constexpr uint32_t kTooLarge = 1U << 24;  // for a number or a length

struct Header {
  uint8_t tag;  // as one byte, however many it had
  bool indefinite;
  size_t length;
};

// X.690 section 8.1.2; a number below 31 in the long form is no DER, but OpenSSL reads it.
std::optional<uint8_t> TakeTag(wire::Reader& in) {
  const uint8_t first = in.U8();
  if ((first & kLongForm) != kLongForm) return first;
  uint32_t number = 0;
  uint8_t byte;
  do {
    byte = in.U8();
    number = number << 7 | (byte & 0x7f);
  } while ((byte & 0x80) != 0 && in.ok() && number < kTooLarge);
  if (number >= kLongForm) return std::nullopt;
  return static_cast<uint8_t>((first & ~kLongForm) | number);
}

// Section 8.1.3. Zeros in front of a length are no DER, either.
std::optional<Header> TakeHeader(wire::Reader& in) {
  const auto tag = TakeTag(in);
  if (!tag) return std::nullopt;
  const uint8_t first = in.U8();
  Header header{*tag, first == 0x80, first};
  if ((first & 0x80) != 0) header.length = 0;
  for (int left = first > 0x80 ? first & 0x7f : 0; left > 0; --left) {
    header.length = header.length << 8 | in.U8();
    if (header.length >= kTooLarge) return std::nullopt;
  }
  if (!in.ok()) return std::nullopt;
  return header;
}

// What structures that are signed begin with: a version or a number (INTEGER), an algorithm, a name
// or an attribute (SEQUENCE), or a field with a tag, like the version of a certificate.
bool CanBeFirst(uint8_t tag) {
  return tag == 0x02 || tag == kSequence || (tag >= 0xa0 && tag <= 0xa3);
}

// What such structures go on with; CMP (RFC 9810) has the most tags.
bool CanFollow(uint8_t tag) {
  constexpr uint8_t kUniversal[] = {kEndOfContents, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06,
                                    0x0a,           0x0c, 0x13, 0x16, 0x17, 0x18, kSequence,
                                    kSet,           0x24, 0x37, 0x38};  // the last three: strings
                                                                        // and times in pieces
  return (tag >= 0xa0 && tag <= 0xba) || std::ranges::count(kUniversal, tag) > 0;
}

// True if `content` begins with three such elements, or has fewer and no others; a single one has
// to hold such elements itself. An element of indefinite length counts by its header, and its
// content as if it followed the element.
bool HoldsElements(wire::Bytes content) {
  constexpr int kEnough = 3;
  wire::Reader in(content);
  int count = 0;
  while (count < kEnough && !in.at_end()) {
    const auto header = TakeHeader(in);
    if (!header || !(count == 0 ? CanBeFirst(header->tag) : CanFollow(header->tag))) return false;
    if (header->length > in.remaining()) return false;
    if (header->tag == kEndOfContents && header->length != 0) return false;
    if (count > 0 || header->indefinite || header->length < in.remaining()) {
      in.Raw(header->length);
      ++count;
    } else if ((header->tag & kConstructed) == 0) {
      return false;
    } else {
      in = wire::Reader(in.Raw(header->length));
    }
  }
  return count > 0;
}

}  // namespace

bool IsSignedStructure(wire::Bytes bytes) {
  wire::Reader in(bytes);
  const auto header = TakeHeader(in);
  if (!header || (header->tag != kSequence && header->tag != kSet)) return false;
  if (!header->indefinite) {
    return header->length == in.remaining() && HoldsElements(in.Raw(header->length));
  }
  if (in.remaining() < 2) return false;
  const wire::Bytes content = in.Raw(in.remaining() - 2);
  return in.U16() == 0 && HoldsElements(content);
}

}  // namespace tlsbroker::der
