#include "protocol/request.h"

#include <utility>

namespace tlsbroker::request {
namespace {

constexpr uint8_t kRekey = 1;
constexpr uint8_t kAnswer = 2;

enum Tag : uint8_t { kToken = 1, kDirection = 2, kStatus = 3 };

// Version, type, then one number and a token: both messages have this shape.
struct Body {
  uint8_t number = 0;
  std::vector<uint8_t> token;
};

std::vector<uint8_t> EncodeBody(uint8_t type, Tag number_tag, uint8_t number,
                                const std::vector<uint8_t>& token) {
  wire::Writer out;
  out.U8(kVersion).U8(type).TlvU8(number_tag, number).Tlv(kToken, token);
  return out.Take();
}

std::optional<Body> DecodeBody(wire::Bytes bytes, uint8_t type, Tag number_tag) {
  wire::Reader in(bytes);
  if (in.U8() != kVersion || in.U8() != type) return std::nullopt;
  const auto number = in.NextTlv();
  const auto token = in.NextTlv();
  if (!number || !token || number->type != number_tag || token->type != kToken) return std::nullopt;
  Body body{wire::ValueU8(in, number->value), {token->value.begin(), token->value.end()}};
  if (!in.Done() || body.token.size() > kMaxToken) return std::nullopt;
  return body;
}

}  // namespace

std::vector<uint8_t> Encode(const Rekey& rekey) {
  return EncodeBody(kRekey, kDirection, static_cast<uint8_t>(rekey.direction), rekey.token);
}

std::vector<uint8_t> Encode(const Answer& answer) {
  return EncodeBody(kAnswer, kStatus, static_cast<uint8_t>(answer.status), answer.token);
}

std::optional<Rekey> DecodeRekey(wire::Bytes bytes) {
  auto body = DecodeBody(bytes, kRekey, kDirection);
  if (!body || body->number < 1 || body->number > 2) return std::nullopt;
  return Rekey{static_cast<Direction>(body->number), std::move(body->token)};
}

std::optional<Answer> DecodeAnswer(wire::Bytes bytes) {
  auto body = DecodeBody(bytes, kAnswer, kStatus);
  if (!body || body->number > static_cast<uint8_t>(Status::kFailed)) return std::nullopt;
  const Answer answer{static_cast<Status>(body->number), std::move(body->token)};
  if ((answer.status == Status::kDone) == answer.token.empty()) return std::nullopt;
  return answer;
}

}  // namespace tlsbroker::request
