// SPDX-License-Identifier: Apache-2.0
// A message names its fields once, for whoever walks through them: what encodes, what decodes, and
// in tests what makes examples. Such a list is a function
//
//   void ListFields(auto& v, fields::Of<Limits> auto& m) {
//     v(1, m.max_handshakes);
//     v(2, m.max_relayed);
//   }
//
// with a number for each field (the type of its TLV, wire.h), which no other field of that message
// has or had. A decoder takes what the encoder writes and nothing else: a TLV that is missing,
// doubled, unknown or out of order, a value out of range, trailing bytes, another number of
// descriptors make it fail. Runs in every process of the broker, on bytes of whoever is at the
// other end.

#ifndef TLSBROKER_PROTOCOL_FIELDS_H_
#define TLSBROKER_PROTOCOL_FIELDS_H_

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/unique_fd.h"
#include "protocol/wire.h"

namespace tlsbroker::fields {

// A list is the same for a message that is read and for one that is written.
template <typename T, typename Message>
concept Of = std::same_as<std::remove_const_t<T>, Message>;

// Bytes of a text, or entries of a list.
struct Size {
  size_t min;
  size_t max;
};

template <typename T>
concept Enum = std::is_enum_v<T>;
template <typename T>
inline constexpr bool kIsOctets = false;
template <size_t n>
inline constexpr bool kIsOctets<std::array<uint8_t, n>> = true;

// ---- A value, which is a number, an enum from 0 or kFirst to kLast, an array of bytes, or a
// struct that lists its parts as a message does its fields, without numbers ----

template <typename T>
void Put(wire::Writer& out, const T& value);
template <typename T>
void Get(wire::Reader& in, T& value);

class PartWriter {
 public:
  explicit PartWriter(wire::Writer& out) : out_(out) {}
  void operator()(const auto& value) { Put(out_, value); }
  void Text(const std::string& text, Size size) {
    if (text.size() < size.min || text.size() > size.max) out_.Fail();
    out_.U16(static_cast<uint16_t>(text.size())).Raw(text);
  }

 private:
  wire::Writer& out_;
};

class PartReader {
 public:
  explicit PartReader(wire::Reader& in) : in_(in) {}
  void operator()(auto& value) { Get(in_, value); }
  void Text(std::string& text, Size size) {
    const size_t length = in_.U16();
    if (length < size.min || length > size.max) return in_.Fail();
    text = wire::AsString(in_.Raw(length));
  }

 private:
  wire::Reader& in_;
};

template <typename T>
void Put(wire::Writer& out, const T& value) {
  if constexpr (Enum<T>) {
    Put(out, static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::same_as<T, bool> || std::same_as<T, uint8_t>) {
    out.U8(value);
  } else if constexpr (std::same_as<T, uint16_t>) {
    out.U16(value);
  } else if constexpr (std::same_as<T, uint32_t>) {
    out.U32(value);
  } else if constexpr (std::same_as<T, uint64_t>) {
    out.U64(value);
  } else if constexpr (kIsOctets<T>) {
    out.Raw(value);
  } else {
    PartWriter parts(out);
    ListParts(parts, value);
  }
}

template <typename T>
void Get(wire::Reader& in, T& value) {
  if constexpr (Enum<T>) {
    std::underlying_type_t<T> number = 0;
    Get(in, number);
    if constexpr (requires { T::kFirst; }) {
      if (number < static_cast<std::underlying_type_t<T>>(T::kFirst)) return in.Fail();
    }
    if (number > static_cast<std::underlying_type_t<T>>(T::kLast)) return in.Fail();
    value = static_cast<T>(number);
  } else if constexpr (std::same_as<T, bool>) {
    const uint8_t number = in.U8();
    if (number > 1) in.Fail();
    value = number == 1;
  } else if constexpr (std::same_as<T, uint8_t>) {
    value = in.U8();
  } else if constexpr (std::same_as<T, uint16_t>) {
    value = in.U16();
  } else if constexpr (std::same_as<T, uint32_t>) {
    value = in.U32();
  } else if constexpr (std::same_as<T, uint64_t>) {
    value = in.U64();
  } else if constexpr (kIsOctets<T>) {
    std::ranges::copy(in.Raw(value.size()), value.begin());
  } else {
    PartReader parts(in);
    ListParts(parts, value);
  }
}

// ---- The fields of a message ----

// A message that its decoder would refuse marks the writer as failed.
class Encoder {
 public:
  // `fds` borrows from the message.
  Encoder(wire::Writer& out, std::vector<int>& fds) : out_(out), fds_(&fds) {}
  // Values alone, whatever descriptors the message has.
  explicit Encoder(wire::Writer& out) : out_(out) {}

  template <typename T>
  void operator()(uint8_t tag, const T& value) {
    Tlv(tag, [&] { Put(out_, value); });
  }
  template <typename T>
  void operator()(uint8_t tag, const std::optional<T>& value) {
    if (value) (*this)(tag, *value);
  }
  void NotZero(uint8_t tag, uint32_t value) {
    if (value == 0) out_.Fail();
    (*this)(tag, value);
  }
  // One TLV for each entry.
  template <typename T>
  void Each(uint8_t tag, const std::vector<T>& list, Size size) {
    Check(list.size(), size);
    for (const T& entry : list) (*this)(tag, entry);
  }
  // All entries in one TLV.
  template <typename T>
  void List(uint8_t tag, const std::vector<T>& list) {
    Tlv(tag, [&] {
      for (const T& entry : list) Put(out_, entry);
    });
  }
  void Text(uint8_t tag, const std::string& text, Size size) {
    Check(text.size(), size);
    out_.Tlv(tag, text);
  }
  // A text that becomes a C string, so it has no NUL.
  void CText(uint8_t tag, const std::string& text, Size size) {
    if (text.find('\0') != std::string::npos) out_.Fail();
    Text(tag, text, size);
  }
  void Blob(uint8_t tag, wire::Bytes bytes, Size size) {
    Check(bytes.size(), size);
    out_.Tlv(tag, bytes);
  }
  // A line for a person; one that is too long is cut.
  void Line(uint8_t tag, const std::string& text, size_t max) {
    out_.Tlv(tag, std::string_view(text).substr(0, max));
  }
  // No TLV if it is empty.
  void MaybeCText(uint8_t tag, const std::string& text, size_t max) {
    if (!text.empty()) CText(tag, text, {1, max});
  }
  // One TLV for each of at most `count` texts.
  void CTexts(uint8_t tag, const std::vector<std::string>& list, Size size, size_t count) {
    Check(list.size(), {0, count});
    for (const std::string& text : list) CText(tag, text, size);
  }
  // Descriptors have no number: they come in the order of the list.
  void Fd(const UniqueFd& fd, bool wanted = true) {
    if (fds_ == nullptr) return;
    if (fd.valid() != wanted) out_.Fail();
    if (fd) fds_->push_back(fd.get());
  }
  // The last descriptor of its message, which may be missing.
  void MaybeFd(const UniqueFd& fd, bool allowed) {
    if (fd) Fd(fd, allowed);
  }

 private:
  void Check(size_t is, Size size) {
    if (is < size.min || is > size.max) out_.Fail();
  }
  void Tlv(uint8_t tag, auto&& put) {
    out_.U8(tag);
    const size_t length = out_.size();
    out_.U16(0);
    put();
    const size_t size = out_.size() - length - sizeof(uint16_t);
    if (size > wire::kMaxTlvValue) return out_.Fail();
    out_.PatchU16(length, static_cast<uint16_t>(size));
  }

  wire::Writer& out_;
  std::vector<int>* fds_ = nullptr;
};

class Decoder {
 public:
  explicit Decoder(wire::Reader& in, std::vector<UniqueFd> fds = {})
      : in_(in), fds_(std::move(fds)) {}

  template <typename T>
  void operator()(uint8_t tag, T& value) {
    if (const auto bytes = Required(tag)) Whole(*bytes, value);
  }
  template <typename T>
  void operator()(uint8_t tag, std::optional<T>& value) {
    if (const auto bytes = Next(tag)) Whole(*bytes, value.emplace());
  }
  void NotZero(uint8_t tag, uint32_t& value) {
    (*this)(tag, value);
    if (value == 0) in_.Fail();
  }
  template <typename T>
  void Each(uint8_t tag, std::vector<T>& list, Size size) {
    if (size.max <= kFew) list.reserve(size.max);
    while (const auto bytes = Next(tag)) Whole(*bytes, list.emplace_back());
    Check(list.size(), size);
  }
  template <typename T>
  void List(uint8_t tag, std::vector<T>& list) {
    const auto bytes = Required(tag);
    if (!bytes) return;
    wire::Reader reader(*bytes);
    while (reader.ok() && !reader.at_end()) Get(reader, list.emplace_back());
    if (!reader.Done()) in_.Fail();
  }
  void Text(uint8_t tag, std::string& text, Size size) {
    if (const auto bytes = Required(tag)) text = wire::AsString(*bytes);
    Check(text.size(), size);
  }
  void CText(uint8_t tag, std::string& text, Size size) {
    Text(tag, text, size);
    if (text.find('\0') != std::string::npos) in_.Fail();
  }
  // `bytes` borrows from what is decoded.
  void Blob(uint8_t tag, wire::Bytes& bytes, Size size) {
    bytes = Required(tag).value_or(wire::Bytes());
    Check(bytes.size(), size);
  }
  void Blob(uint8_t tag, std::vector<uint8_t>& bytes, Size size) {
    wire::Bytes borrowed;
    Blob(tag, borrowed, size);
    bytes.assign(borrowed.begin(), borrowed.end());
  }
  void Line(uint8_t tag, std::string& text, size_t max) { Text(tag, text, {0, max}); }
  void MaybeCText(uint8_t tag, std::string& text, size_t max) {
    if (NextIs(tag)) CText(tag, text, {1, max});
  }
  void CTexts(uint8_t tag, std::vector<std::string>& list, Size size, size_t count) {
    while (NextIs(tag) && list.size() < count) CText(tag, list.emplace_back(), size);
  }
  void Fd(UniqueFd& fd, bool wanted = true) {
    if (!wanted) return;  // one that came is left over
    if (taken_ == fds_.size()) return in_.Fail();
    fd = std::move(fds_[taken_++]);
  }
  void MaybeFd(UniqueFd& fd, bool allowed) { Fd(fd, allowed && taken_ < fds_.size()); }

  // All was as it should be, and nothing is left over.
  bool Done() const { return in_.Done() && taken_ == fds_.size(); }

 private:
  // A short list may be one of keys: if the list had to grow, a copy of them would stay behind.
  static constexpr size_t kFew = 8;

  bool NextIs(uint8_t tag) const {
    return in_.ok() && !in_.at_end() && wire::Reader(in_).U8() == tag;
  }
  std::optional<wire::Bytes> Next(uint8_t tag) {
    if (!NextIs(tag)) return std::nullopt;
    const auto tlv = in_.NextTlv();
    return tlv ? std::optional(tlv->value) : std::nullopt;
  }
  std::optional<wire::Bytes> Required(uint8_t tag) {
    auto value = Next(tag);
    if (!value) in_.Fail();
    return value;
  }
  template <typename T>
  void Whole(wire::Bytes bytes, T& value) {
    wire::Reader reader(bytes);
    Get(reader, value);
    if (!reader.Done()) in_.Fail();
  }
  void Check(size_t is, Size size) {
    if (is < size.min || is > size.max) in_.Fail();
  }

  wire::Reader& in_;
  std::vector<UniqueFd> fds_;
  size_t taken_ = 0;
};

}  // namespace tlsbroker::fields

#endif  // TLSBROKER_PROTOCOL_FIELDS_H_
