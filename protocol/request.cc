// SPDX-License-Identifier: Apache-2.0
#include "protocol/request.h"

#include "protocol/request_fields.h"

namespace tlsbroker::request {
namespace {

template <typename Message>
std::vector<uint8_t> EncodeOne(const Message& message) {
  wire::Writer out;
  fields::Encoder encoder(out.U8(kVersion).U8(Message::kType));
  ListFields(encoder, message);
  return out.ok() ? out.Take() : std::vector<uint8_t>();
}

template <typename Message>
std::optional<Message> DecodeOne(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (in.U8() != kVersion || in.U8() != Message::kType) return std::nullopt;
  Message message;
  fields::Decoder decoder(in);
  ListFields(decoder, message);
  if (!decoder.Done()) return std::nullopt;
  return message;
}

}  // namespace

std::vector<uint8_t> Encode(const Rekey& rekey) { return EncodeOne(rekey); }
std::vector<uint8_t> Encode(const Answer& answer) { return EncodeOne(answer); }
std::vector<uint8_t> Encode(const Wrap& wrap) { return EncodeOne(wrap); }
std::vector<uint8_t> Encode(const Dial& dial) { return EncodeOne(dial); }

std::vector<uint8_t> Encode(const Opened& opened) {
  if (opened.text.size() <= kMaxText) return EncodeOne(opened);
  return EncodeOne(Opened{opened.result, opened.text.substr(0, kMaxText), {}});
}

std::optional<Rekey> DecodeRekey(wire::Bytes bytes) { return DecodeOne<Rekey>(bytes); }
std::optional<Answer> DecodeAnswer(wire::Bytes bytes) { return DecodeOne<Answer>(bytes); }
std::optional<Wrap> DecodeWrap(wire::Bytes bytes) { return DecodeOne<Wrap>(bytes); }
std::optional<Dial> DecodeDial(wire::Bytes bytes) { return DecodeOne<Dial>(bytes); }
std::optional<Opened> DecodeOpened(wire::Bytes bytes) { return DecodeOne<Opened>(bytes); }

}  // namespace tlsbroker::request
