// SPDX-License-Identifier: Apache-2.0
#include "protocol/supervision.h"

#include "protocol/supervision_fields.h"

namespace tlsbroker::supervision {
namespace {

// Makes the message that has that type.
template <typename... M>
void Choose(uint8_t type, std::optional<std::variant<M...>>& message) {
  (void)((M::kType == type && (message.emplace(M()), true)) || ...);
}

}  // namespace

std::vector<uint8_t> EncodeValues(const Message& message) {
  wire::Writer out;
  std::visit(
      [&](const auto& m) {
        fields::Encoder encoder(out.U8(m.kType));
        ListFields(encoder, m);
      },
      message);
  return out.Take();
}

// Used by other files, and so neither inlined nor changed for its use below.
#if defined(__clang__)
#define TLSBROKER_AS_IT_IS gnu::noinline
#else
#define TLSBROKER_AS_IT_IS gnu::noipa
#endif
template <typename M>
[[TLSBROKER_AS_IT_IS]] Encoded EncodeOne(const M& message) {
  // Room for the message with ticket keys: if the buffer had to grow, a copy of them would stay
  // behind.
  wire::Writer out(512);
  Encoded encoded;
  out.U8(M::kType);
  fields::Encoder encoder(out, encoded.fds);
  ListFields(encoder, message);
  if (out.ok() && out.size() <= kMaxMessage) encoded.bytes = out.Take();
  return encoded;
}

Encoded Encode(const Message& message) {
  return std::visit([](const auto& one) { return EncodeOne(one); }, message);
}

template <>
Encoded EncodeOne(const Message& message) {
  return Encode(message);
}

std::optional<Message> Decode(wire::Bytes bytes, std::vector<UniqueFd> fds) {
  wire::Reader in(bytes);
  std::optional<Message> message;
  Choose(in.U8(), message);
  if (!message) return std::nullopt;
  fields::Decoder decoder(in, std::move(fds));
  std::visit([&](auto& m) { ListFields(decoder, m); }, *message);
  if (!decoder.Done()) return std::nullopt;
  return message;
}

}  // namespace tlsbroker::supervision
