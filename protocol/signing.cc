#include "protocol/signing.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace tlsbroker::signing {
namespace {

enum Tag : uint8_t {
  kRequestId = 1,
  kCertificateId,
  kScheme,
  kContent,
  kSignatureBytes,
  kReasonTag,
};

// The value of the next TLV, which has to have this tag.
wire::Bytes Next(wire::Reader& in, Tag tag) {
  const auto tlv = in.NextTlv();
  if (!tlv || tlv->type != tag) {
    in.Fail();
    return {};
  }
  return tlv->value;
}

wire::Bytes NextBytes(wire::Reader& in, Tag tag, size_t max) {
  const wire::Bytes value = Next(in, tag);
  if (value.empty() || value.size() > max) in.Fail();
  return value;
}

wire::Writer Begin(MessageType type, uint32_t request_id) {
  wire::Writer out;
  out.U8(static_cast<uint8_t>(type)).TlvU32(kRequestId, request_id);
  return out;
}

std::optional<Reply> DecodeSignature(wire::Reader& in) {
  Signature m;
  m.request_id = wire::ValueU32(in, Next(in, kRequestId));
  const wire::Bytes bytes = NextBytes(in, kSignatureBytes, kMaxSignature);
  m.bytes.assign(bytes.begin(), bytes.end());
  if (!in.Done()) return std::nullopt;
  return m;
}

std::optional<Reply> DecodeRefused(wire::Reader& in) {
  Refused m;
  m.request_id = wire::ValueU32(in, Next(in, kRequestId));
  const uint8_t reason = wire::ValueU8(in, Next(in, kReasonTag));
  if (reason < static_cast<uint8_t>(Reason::kCertificate)) in.Fail();
  if (reason > static_cast<uint8_t>(Reason::kFailed)) in.Fail();
  m.reason = static_cast<Reason>(reason);
  if (!in.Done()) return std::nullopt;
  return m;
}

}  // namespace

const char* ReasonName(Reason reason) {
  switch (reason) {
    case Reason::kCertificate:
      return "certificate";
    case Reason::kContent:
      return "content";
    case Reason::kScheme:
      return "scheme";
    case Reason::kRate:
      return "rate";
    case Reason::kFailed:
      return "failed";
  }
  return "unknown";
}

std::vector<uint8_t> Encode(const Sign& message) {
  wire::Writer out = Begin(MessageType::kSign, message.request_id);
  out.TlvU16(kCertificateId, message.certificate_id).TlvU16(kScheme, message.scheme);
  return out.Tlv(kContent, message.content).Take();
}

std::vector<uint8_t> Encode(const Reply& message) {
  if (const auto* signature = std::get_if<Signature>(&message)) {
    wire::Writer out = Begin(MessageType::kSignature, signature->request_id);
    return out.Tlv(kSignatureBytes, signature->bytes).Take();
  }
  const auto& refused = std::get<Refused>(message);
  wire::Writer out = Begin(MessageType::kRefused, refused.request_id);
  return out.TlvU8(kReasonTag, static_cast<uint8_t>(refused.reason)).Take();
}

std::optional<Sign> DecodeSign(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (in.U8() != static_cast<uint8_t>(MessageType::kSign)) return std::nullopt;
  Sign m;
  m.request_id = wire::ValueU32(in, Next(in, kRequestId));
  m.certificate_id = wire::ValueU16(in, Next(in, kCertificateId));
  m.scheme = wire::ValueU16(in, Next(in, kScheme));
  m.content = NextBytes(in, kContent, kMaxContent);
  if (!in.Done()) return std::nullopt;
  return m;
}

std::optional<Reply> DecodeReply(wire::Bytes bytes) {
  wire::Reader in(bytes);
  switch (static_cast<MessageType>(in.U8())) {
    case MessageType::kSignature:
      return DecodeSignature(in);
    case MessageType::kRefused:
      return DecodeRefused(in);
    case MessageType::kSign:
      break;
  }
  return std::nullopt;
}

namespace {

// RFC 8446 section 4.4.3: 64 spaces, the context string, a 0 byte, the transcript hash.
constexpr size_t kTls13Padding = 64;
constexpr std::string_view kTls13ServerContext{"TLS 1.3, server CertificateVerify\0", 34};
constexpr std::string_view kTls13ClientContext{"TLS 1.3, client CertificateVerify\0", 34};

bool TakePrefix(wire::Bytes& content, std::string_view prefix) {
  if (content.size() < prefix.size()) return false;
  if (!std::ranges::equal(content.first(prefix.size()), wire::AsBytes(prefix))) return false;
  content = content.subspan(prefix.size());
  return true;
}

std::optional<Shape> Tls13Shape(wire::Bytes content) {
  if (content.size() < kTls13Padding) return std::nullopt;
  const auto is_space = [](uint8_t b) { return b == 0x20; };
  if (!std::ranges::all_of(content.first(kTls13Padding), is_space)) return std::nullopt;
  wire::Bytes rest = content.subspan(kTls13Padding);
  const bool server = TakePrefix(rest, kTls13ServerContext);
  if (!server && !TakePrefix(rest, kTls13ClientContext)) return std::nullopt;
  // The suites of TLS 1.3 hash with SHA-256 or SHA-384.
  if (rest.size() != 32 && rest.size() != 48) return std::nullopt;
  return server ? Shape::kTls13Server : Shape::kTls13Client;
}

// RFC 8422 section 5.4 and RFC 8446 section 4.2.8.2: the length of a share is fixed by its group.
struct Group {
  uint16_t id;
  uint8_t share_size;
  bool is_point;  // uncompressed: a first byte 4, then both coordinates
};
constexpr Group kGroups[] = {
    {23, 65, true},   // secp256r1
    {24, 97, true},   // secp384r1
    {25, 133, true},  // secp521r1
    {29, 32, false},  // x25519
    {30, 56, false},  // x448
};
constexpr size_t kTls12Randoms = 32 + 32;
constexpr uint8_t kNamedCurve = 3;
constexpr uint8_t kUncompressed = 4;

bool IsTls12KeyExchange(wire::Bytes content) {
  wire::Reader in(content);
  in.Raw(kTls12Randoms);
  const uint8_t curve_type = in.U8();
  const uint16_t id = in.U16();
  const wire::Bytes share = in.Raw(in.U8());
  if (!in.Done() || curve_type != kNamedCurve) return false;
  const auto* group = std::ranges::find(kGroups, id, &Group::id);
  if (group == std::end(kGroups) || share.size() != group->share_size) return false;
  return !group->is_point || share[0] == kUncompressed;
}

// RFC 5246 section 7.3 with ECDHE, as far as the client's ClientKeyExchange.
enum HandshakeType : uint8_t {
  kClientHello = 1,
  kServerHello = 2,
  kCertificate = 11,
  kServerKeyExchange = 12,
  kCertificateRequest = 13,
  kServerHelloDone = 14,
  kClientKeyExchange = 16,
  kCertificateStatus = 22,  // RFC 6066 section 8; may be missing
};
constexpr HandshakeType kTls12Flight[] = {
    kClientHello,        kServerHello,     kCertificate, kCertificateStatus, kServerKeyExchange,
    kCertificateRequest, kServerHelloDone, kCertificate, kClientKeyExchange};

bool IsTls12Transcript(wire::Bytes content) {
  if (content.size() <= kMaxShortContent) return false;
  wire::Reader in(content);
  const auto* expected = std::begin(kTls12Flight);
  while (in.ok() && !in.at_end()) {
    const uint8_t type = in.U8();
    if (expected != std::end(kTls12Flight) && *expected == kCertificateStatus && type != *expected)
      ++expected;
    if (expected == std::end(kTls12Flight) || type != *expected++) return false;
    const size_t high = in.U8();
    in.Raw(high << 16 | in.U16());
  }
  return in.Done() && expected == std::end(kTls12Flight);
}

bool IsPkcs1(uint16_t scheme) {
  return scheme == schemes::kRsaPkcs1Sha256 || scheme == schemes::kRsaPkcs1Sha384 ||
         scheme == schemes::kRsaPkcs1Sha512;
}

bool IsEcdsa(uint16_t scheme) {
  return scheme == schemes::kEcdsaSecp256r1Sha256 || scheme == schemes::kEcdsaSecp384r1Sha384 ||
         scheme == schemes::kEcdsaSecp521r1Sha512;
}

}  // namespace

std::optional<Shape> ShapeOf(wire::Bytes content) {
  if (auto shape = Tls13Shape(content)) return shape;
  if (IsTls12KeyExchange(content)) return Shape::kTls12Server;
  if (IsTls12Transcript(content)) return Shape::kTls12Client;
  return std::nullopt;
}

bool SchemeFits(uint16_t scheme, KeyType key, Shape shape) {
  const bool tls12 = shape == Shape::kTls12Server || shape == Shape::kTls12Client;
  switch (key) {
    case KeyType::kRsa:
      if (IsPkcs1(scheme)) return tls12;
      return scheme >= schemes::kRsaPssRsaeSha256 && scheme <= schemes::kRsaPssRsaeSha512;
    case KeyType::kRsaPss:
      return scheme >= schemes::kRsaPssPssSha256 && scheme <= schemes::kRsaPssPssSha512;
    case KeyType::kEcP256:
      return scheme == schemes::kEcdsaSecp256r1Sha256 || (tls12 && IsEcdsa(scheme));
    case KeyType::kEcP384:
      return scheme == schemes::kEcdsaSecp384r1Sha384 || (tls12 && IsEcdsa(scheme));
    case KeyType::kEd25519:
      return scheme == schemes::kEd25519;
  }
  return false;
}

}  // namespace tlsbroker::signing
