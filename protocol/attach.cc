// SPDX-License-Identifier: Apache-2.0
#include "protocol/attach.h"

#include <algorithm>
#include <string_view>

namespace tlsbroker::attach {
namespace {

constexpr std::string_view kSignature = "TLSBROKR";
constexpr uint8_t kVersion = 1;

}  // namespace

std::array<uint8_t, kSize> Encode(Answer answer) {
  std::array<uint8_t, kSize> bytes{};
  std::ranges::copy(kSignature, bytes.begin());
  bytes[8] = kVersion;
  bytes[9] = static_cast<uint8_t>(answer);
  return bytes;
}

std::optional<Answer> Decode(wire::Bytes bytes) {
  wire::Reader in(bytes);
  const bool ours = wire::AsString(in.Raw(kSignature.size())) == kSignature;
  const uint8_t version = in.U8();
  const uint8_t answer = in.U8();
  in.Raw(6);  // for later versions
  if (!in.Done() || !ours || version != kVersion) return std::nullopt;
  if (answer > static_cast<uint8_t>(Answer::kTooMany)) return std::nullopt;
  return static_cast<Answer>(answer);
}

}  // namespace tlsbroker::attach
