// SPDX-License-Identifier: Apache-2.0
// Examples of messages, made from the lists of their fields (protocol/fields.h), so that tests and
// fuzz seeds always match the present messages.

#ifndef TLSBROKER_TESTS_TESTLIB_EXAMPLES_H_
#define TLSBROKER_TESTS_TESTLIB_EXAMPLES_H_

#include <fcntl.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include "protocol/fields.h"

namespace tlsbroker::testlib {

// How much is in an example: as little as a decoder takes, something different in each field, or
// the largest values, with texts and lists that are still short enough to read.
enum class Amount { kLeast, kSome, kMost };
inline constexpr Amount kAmounts[] = {Amount::kLeast, Amount::kSome, Amount::kMost};
constexpr const char* NameOf(Amount amount) {
  return amount == Amount::kLeast ? "least" : amount == Amount::kSome ? "some" : "most";
}

// The name of a message's type: "Settings" of tlsbroker::supervision::Settings.
template <typename T>
constexpr std::string_view NameOf() {
  std::string_view text = __PRETTY_FUNCTION__;
  text = text.substr(text.find("T = ") + 4);
  text = text.substr(0, text.find_first_of(";]"));
  return text.substr(text.rfind(':') + 1);
}

class ExampleMaker {
 public:
  explicit ExampleMaker(Amount amount) : amount_(amount) {}

  template <typename T>
  void operator()(uint8_t /*tag*/, T& value) {
    Make(value);
  }
  template <typename T>
  void operator()(uint8_t /*tag*/, std::optional<T>& value) {
    if (amount_ != Amount::kLeast) Make(value.emplace());
  }
  void NotZero(uint8_t tag, uint32_t& value) {
    (*this)(tag, value);
    value = std::max(value, 1U);
  }
  template <typename T>
  void Each(uint8_t /*tag*/, std::vector<T>& list, fields::Size size) {
    list.resize(Length(size, 2, 20));
    for (T& entry : list) Make(entry);
  }
  template <typename T>
  void List(uint8_t tag, std::vector<T>& list) {
    Each(tag, list, {0, 1000});
  }
  void Text(uint8_t /*tag*/, std::string& text, fields::Size size) { Text(text, size); }
  void CText(uint8_t /*tag*/, std::string& text, fields::Size size) { Text(text, size); }
  void MaybeCText(uint8_t /*tag*/, std::string& text, size_t max) { Text(text, {0, max}); }
  void Line(uint8_t /*tag*/, std::string& text, size_t max) { Text(text, {0, max}); }
  void CTexts(uint8_t /*tag*/, std::vector<std::string>& list, fields::Size size, size_t count) {
    list.resize(Length({0, count}, 2, 20));
    for (std::string& text : list) Text(text, size);
  }
  void Blob(uint8_t /*tag*/, std::vector<uint8_t>& bytes, fields::Size size) {
    bytes.assign(Length(size, 7, 300), static_cast<uint8_t>(++number_));
  }
  void Blob(uint8_t /*tag*/, wire::Bytes& bytes, fields::Size size) {
    static constexpr std::array<uint8_t, 300> kBytes{1, 2, 3};
    bytes = wire::Bytes(kBytes).first(Length(size, 7, kBytes.size()));
  }
  void Fd(UniqueFd& fd, bool wanted = true) {
    if (wanted) fd = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
  void MaybeFd(UniqueFd& fd, bool allowed) { Fd(fd, allowed); }

  // For values that have parts.
  template <typename T>
  void operator()(T& value) {
    Make(value);
  }
  void Text(std::string& text, fields::Size size) {
    text = "text " + std::to_string(++number_);
    text.resize(Length(size, text.size(), 300), 'x');
  }

 private:
  size_t Length(fields::Size size, size_t some, size_t most) const {
    if (amount_ == Amount::kLeast) return size.min;
    return std::clamp(amount_ == Amount::kSome ? some : most, size.min, size.max);
  }

  template <typename T>
  void Make(T& value) {
    if constexpr (fields::Enum<T>) {
      uint64_t first = 0;
      if constexpr (requires { T::kFirst; }) first = static_cast<uint64_t>(T::kFirst);
      const auto last = static_cast<uint64_t>(T::kLast);
      value = static_cast<T>(amount_ == Amount::kLeast ? first : last);
    } else if constexpr (std::same_as<T, bool>) {
      value = amount_ != Amount::kLeast;
    } else if constexpr (std::unsigned_integral<T>) {
      ++number_;
      if (amount_ == Amount::kLeast) value = 0;
      if (amount_ == Amount::kSome) value = static_cast<T>(number_);
      if (amount_ == Amount::kMost) value = std::numeric_limits<T>::max();
    } else if constexpr (fields::kIsOctets<T>) {
      value.fill(static_cast<uint8_t>(++number_));
    } else {
      ListParts(*this, value);
    }
  }

  const Amount amount_;
  uint64_t number_ = 0;
};

template <typename Message>
Message Example(Amount amount) {
  Message message;
  ExampleMaker maker(amount);
  ListFields(maker, message);
  return message;
}

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_EXAMPLES_H_
