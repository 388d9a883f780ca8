// SPDX-License-Identifier: Apache-2.0
// The one byte-level reader and writer of every message that crosses a process boundary: unsigned
// integers in network order and TLVs shaped like those of the PROXY protocol v2 (u8 type, u16
// length, value). Runs in every process, on bytes of whoever is on the other side: a Reader never
// reads past its span, and once it has failed it stays failed.

#ifndef TLSBROKER_PROTOCOL_WIRE_H_
#define TLSBROKER_PROTOCOL_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker::wire {

using Bytes = std::span<const uint8_t>;

inline Bytes AsBytes(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
inline std::string AsString(Bytes b) {
  return std::string(reinterpret_cast<const char*>(b.data()), b.size());
}

inline constexpr size_t kMaxTlvValue = 0xffff;

class Writer {
 public:
  // `expected` is about how many bytes there will be.
  explicit Writer(size_t expected = 0) { out_.reserve(expected); }

  Writer& U8(uint8_t v);
  Writer& U16(uint16_t v);
  Writer& U32(uint32_t v);
  Writer& U64(uint64_t v);
  Writer& Raw(Bytes bytes);
  Writer& Raw(std::string_view text) { return Raw(AsBytes(text)); }

  // A whole TLV. A value longer than kMaxTlvValue marks the writer as failed.
  Writer& Tlv(uint8_t type, Bytes value);
  Writer& Tlv(uint8_t type, std::string_view text) { return Tlv(type, AsBytes(text)); }
  Writer& TlvU8(uint8_t type, uint8_t v);
  Writer& TlvU16(uint8_t type, uint16_t v);
  Writer& TlvU32(uint8_t type, uint32_t v);
  Writer& TlvU64(uint8_t type, uint64_t v);

  // Overwrites two bytes written before, for lengths that are known only at the end.
  void PatchU16(size_t offset, uint16_t v);

  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }
  size_t size() const { return out_.size(); }
  Bytes bytes() const { return out_; }
  std::vector<uint8_t> Take() { return std::move(out_); }

 private:
  std::vector<uint8_t> out_;
  bool ok_ = true;
};

struct TlvView {
  uint8_t type;
  Bytes value;
};

class Reader {
 public:
  explicit Reader(Bytes bytes) : rest_(bytes) {}

  // After a read past the end these return 0 or an empty span, and ok() is false.
  uint8_t U8();
  uint16_t U16();
  uint32_t U32();
  uint64_t U64();
  Bytes Raw(size_t n);

  // The next TLV, or nullopt at the end or on a malformed one (then ok() is false).
  std::optional<TlvView> NextTlv();

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }
  size_t remaining() const { return rest_.size(); }
  // True when everything was read and nothing was malformed.
  bool Done() const { return ok_ && rest_.empty(); }
  void Fail() { ok_ = false; }

 private:
  Bytes rest_;
  bool ok_ = true;
};

// A TLV value that has to be exactly one integer; the reader that it came from fails otherwise.
uint8_t ValueU8(Reader& parent, Bytes value);
uint16_t ValueU16(Reader& parent, Bytes value);
uint32_t ValueU32(Reader& parent, Bytes value);
uint64_t ValueU64(Reader& parent, Bytes value);

}  // namespace tlsbroker::wire

#endif  // TLSBROKER_PROTOCOL_WIRE_H_
