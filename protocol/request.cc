#include "protocol/request.h"

#include <utility>

namespace tlsbroker::request {
namespace {

constexpr uint8_t kRekey = 1;
constexpr uint8_t kAnswer = 2;
constexpr uint8_t kWrap = 3;
constexpr uint8_t kDial = 4;
constexpr uint8_t kOpened = 5;

enum Tag : uint8_t {
  kToken = 1,
  kDirection = 2,
  kStatus = 3,
  kRole = 4,
  kName = 5,
  kAlpn = 6,
  kText = 7,
  kDescription = 8,
  kCertificateTag = 9,
};

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

wire::Writer Begin(uint8_t type) {
  wire::Writer out;
  out.U8(kVersion).U8(type);
  return out;
}

bool IsOf(wire::Reader& in, uint8_t type) { return in.U8() == kVersion && in.U8() == type; }

// The next TLV, which has to be this one; otherwise the reader fails.
wire::Bytes Next(wire::Reader& in, Tag tag) {
  const auto tlv = in.NextTlv();
  if (tlv && tlv->type == tag) return tlv->value;
  in.Fail();
  return {};
}

bool NextIs(wire::Reader in, Tag tag) { return in.ok() && !in.at_end() && in.U8() == tag; }

// Texts become C strings.
std::string NextText(wire::Reader& in, Tag tag, size_t max) {
  std::string text = wire::AsString(Next(in, tag));
  if (text.size() > max || text.find('\0') != std::string::npos) in.Fail();
  return text;
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

std::vector<uint8_t> Encode(const Wrap& wrap) {
  wire::Writer out = Begin(kWrap);
  out.TlvU8(kRole, static_cast<uint8_t>(wrap.role));
  if (wrap.role == Role::kClient) {
    out.Tlv(kName, wrap.name);
    for (const std::string& protocol : wrap.alpn) out.Tlv(kAlpn, protocol);
    if (!wrap.certificate.empty()) out.Tlv(kCertificateTag, wrap.certificate);
  }
  return out.Take();
}

std::vector<uint8_t> Encode(const Dial& dial) {
  wire::Writer out = Begin(kDial);
  out.Tlv(kName, dial.upstream);
  return out.Take();
}

std::vector<uint8_t> Encode(const Opened& opened) {
  wire::Writer out = Begin(kOpened);
  out.TlvU8(kStatus, static_cast<uint8_t>(opened.result));
  if (opened.result == Result::kDone) {
    out.Tlv(kDescription, opened.description);
  } else {
    out.Tlv(kText, opened.text.substr(0, request::kMaxText));
  }
  return out.Take();
}

std::optional<Wrap> DecodeWrap(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (!IsOf(in, kWrap)) return std::nullopt;
  const uint8_t role = wire::ValueU8(in, Next(in, kRole));
  if (role != static_cast<uint8_t>(Role::kServer) && role != static_cast<uint8_t>(Role::kClient)) {
    return std::nullopt;
  }
  Wrap wrap{static_cast<Role>(role), {}, {}, {}};
  if (wrap.role == Role::kClient) {
    wrap.name = NextText(in, kName, kMaxName);
    while (NextIs(in, kAlpn) && wrap.alpn.size() < kMaxAlpn) {
      wrap.alpn.push_back(NextText(in, kAlpn, kMaxName));
      if (wrap.alpn.back().empty()) in.Fail();
    }
    if (NextIs(in, kCertificateTag)) {
      wrap.certificate = NextText(in, kCertificateTag, kMaxName);
      if (wrap.certificate.empty()) in.Fail();
    }
    if (wrap.name.empty()) in.Fail();
  }
  if (!in.Done()) return std::nullopt;
  return wrap;
}

std::optional<Dial> DecodeDial(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (!IsOf(in, kDial)) return std::nullopt;
  Dial dial{NextText(in, kName, kMaxName)};
  if (!in.Done() || dial.upstream.empty()) return std::nullopt;
  return dial;
}

std::optional<Opened> DecodeOpened(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (!IsOf(in, kOpened)) return std::nullopt;
  const uint8_t result = wire::ValueU8(in, Next(in, kStatus));
  if (result > static_cast<uint8_t>(Result::kFailed)) return std::nullopt;
  Opened opened{static_cast<Result>(result), {}, {}};
  if (opened.result == Result::kDone) {
    const wire::Bytes description = Next(in, kDescription);
    opened.description.assign(description.begin(), description.end());
    if (description.empty()) in.Fail();
  } else {
    opened.text = NextText(in, kText, request::kMaxText);
  }
  if (!in.Done()) return std::nullopt;
  return opened;
}

}  // namespace tlsbroker::request
