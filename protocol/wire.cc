// SPDX-License-Identifier: Apache-2.0
#include "protocol/wire.h"

#include <utility>

namespace tlsbroker::wire {
namespace {

template <typename T>
T LoadBigEndian(Bytes bytes) {
  T v = 0;
  for (uint8_t b : bytes) v = static_cast<T>((v << 8) | b);
  return v;
}

}  // namespace

Writer& Writer::U8(uint8_t v) {
  out_.push_back(v);
  return *this;
}

Writer& Writer::U16(uint16_t v) { return U8(v >> 8).U8(v & 0xff); }

Writer& Writer::U32(uint32_t v) { return U16(v >> 16).U16(v & 0xffff); }

Writer& Writer::U64(uint64_t v) { return U32(v >> 32).U32(v & 0xffffffff); }

Writer& Writer::Raw(Bytes bytes) {
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  return *this;
}

Writer& Writer::Tlv(uint8_t type, Bytes value) {
  if (value.size() > kMaxTlvValue) {
    ok_ = false;
    return *this;
  }
  return U8(type).U16(static_cast<uint16_t>(value.size())).Raw(value);
}

Writer& Writer::TlvU8(uint8_t type, uint8_t v) { return U8(type).U16(1).U8(v); }
Writer& Writer::TlvU16(uint8_t type, uint16_t v) { return U8(type).U16(2).U16(v); }
Writer& Writer::TlvU32(uint8_t type, uint32_t v) { return U8(type).U16(4).U32(v); }
Writer& Writer::TlvU64(uint8_t type, uint64_t v) { return U8(type).U16(8).U64(v); }

void Writer::PatchU16(size_t offset, uint16_t v) {
  if (offset + 2 > out_.size()) {
    ok_ = false;
    return;
  }
  out_[offset] = v >> 8;
  out_[offset + 1] = v & 0xff;
}

Bytes Reader::Raw(size_t n) {
  if (!ok_ || n > rest_.size()) {
    ok_ = false;
    return {};
  }
  Bytes taken = rest_.first(n);
  rest_ = rest_.subspan(n);
  return taken;
}

uint8_t Reader::U8() { return LoadBigEndian<uint8_t>(Raw(1)); }
uint16_t Reader::U16() { return LoadBigEndian<uint16_t>(Raw(2)); }
uint32_t Reader::U32() { return LoadBigEndian<uint32_t>(Raw(4)); }
uint64_t Reader::U64() { return LoadBigEndian<uint64_t>(Raw(8)); }

std::optional<TlvView> Reader::NextTlv() {
  if (!ok_ || rest_.empty()) return std::nullopt;
  const uint8_t type = U8();
  const uint16_t length = U16();
  const Bytes value = Raw(length);
  if (!ok_) return std::nullopt;
  return TlvView{type, value};
}

namespace {

template <typename T>
T ExactValue(Reader& parent, Bytes value) {
  if (value.size() != sizeof(T)) {
    parent.Fail();
    return 0;
  }
  return LoadBigEndian<T>(value);
}

}  // namespace

uint8_t ValueU8(Reader& parent, Bytes value) { return ExactValue<uint8_t>(parent, value); }
uint16_t ValueU16(Reader& parent, Bytes value) { return ExactValue<uint16_t>(parent, value); }
uint32_t ValueU32(Reader& parent, Bytes value) { return ExactValue<uint32_t>(parent, value); }
uint64_t ValueU64(Reader& parent, Bytes value) { return ExactValue<uint64_t>(parent, value); }

}  // namespace tlsbroker::wire
