// SPDX-License-Identifier: Apache-2.0
#include "protocol/signing.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "protocol/der.h"
#include "protocol/signing_fields.h"
#include "protocol/tls_groups.h"

namespace tlsbroker::signing {
namespace {

using tls_groups::Group;

template <typename Message>
std::vector<uint8_t> EncodeOne(const Message& message) {
  wire::Writer out;
  fields::Encoder encoder(out.U8(Message::kType));
  ListFields(encoder, message);
  return out.ok() ? out.Take() : std::vector<uint8_t>();
}

template <typename Message>
std::optional<Message> DecodeOne(wire::Bytes bytes) {
  wire::Reader in(bytes);
  if (in.U8() != Message::kType) return std::nullopt;
  Message message;
  fields::Decoder decoder(in);
  ListFields(decoder, message);
  if (!decoder.Done()) return std::nullopt;
  return message;
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

std::vector<uint8_t> Encode(const Sign& message) { return EncodeOne(message); }

std::vector<uint8_t> Encode(const Reply& message) {
  return std::visit([](const auto& m) { return EncodeOne(m); }, message);
}

std::optional<Sign> DecodeSign(wire::Bytes bytes) { return DecodeOne<Sign>(bytes); }

std::optional<Reply> DecodeReply(wire::Bytes bytes) {
  if (auto signature = DecodeOne<Signature>(bytes)) return signature;
  return DecodeOne<Refused>(bytes);
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

// Takes a public key of ECDHE, with its length, that is of this group.
bool TakeShare(wire::Reader& in, const Group& group) {
  constexpr uint8_t kUncompressed = 4;
  const wire::Bytes share = in.Raw(in.U8());
  if (share.size() != group.share_size) return false;
  return !group.is_point || share[0] == kUncompressed;
}

// Takes ServerECDHParams, RFC 8422 section 5.4. nullptr if it is something else, or names a group
// that is not offered.
const Group* TakeParameters(wire::Reader& in) {
  constexpr uint8_t kNamedCurve = 3;
  if (in.U8() != kNamedCurve) return nullptr;
  const auto* group = std::ranges::find(tls_groups::kOffered, in.U16(), &Group::id);
  if (group == std::end(tls_groups::kOffered) || !TakeShare(in, *group)) return nullptr;
  return group;
}

std::optional<Shape> Tls12KeyExchange(wire::Bytes content) {
  // RFC 8446 section 4.1.3: how the random of a server ends that can do TLS 1.3 as well.
  constexpr std::string_view kDowngrade = "DOWNGRD\x01";
  constexpr size_t kRandoms = 32 + 32;
  wire::Reader in(content);
  in.Raw(kRandoms - kDowngrade.size());
  const bool downgrade = std::ranges::equal(in.Raw(kDowngrade.size()), wire::AsBytes(kDowngrade));
  if (TakeParameters(in) == nullptr || !in.Done()) return std::nullopt;
  return downgrade ? Shape::kTls12Server : Shape::kTls12AloneServer;
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

bool IsHello(wire::Bytes body) {
  constexpr uint16_t kTls12 = 0x0303;
  constexpr size_t kShortest = 2 + 32 + 1 + 2 + 1;  // a server's, without extensions
  return body.size() >= kShortest && wire::Reader(body).U16() == kTls12;
}

// `group` is that of the server's key exchange, once it has come.
bool IsMessage(uint8_t type, wire::Bytes body, const Group*& group) {
  wire::Reader in(body);
  switch (type) {
    case kClientHello:
    case kServerHello:
      return IsHello(body);
    case kServerKeyExchange:
      group = TakeParameters(in);
      in.U16();  // the scheme of the signature
      in.Raw(in.U16());
      return group != nullptr && in.Done();
    case kServerHelloDone:
      return body.empty();
    case kClientKeyExchange:
      return group != nullptr && TakeShare(in, *group) && in.Done();
    default:  // certificates, and what is about them
      return !body.empty();
  }
}

bool IsTls12Transcript(wire::Bytes content) {
  if (content.size() <= kMaxShortContent) return false;
  wire::Reader in(content);
  const auto* expected = std::begin(kTls12Flight);
  const Group* group = nullptr;
  while (in.ok() && !in.at_end()) {
    const uint8_t type = in.U8();
    if (expected != std::end(kTls12Flight) && *expected == kCertificateStatus && type != *expected)
      ++expected;
    if (expected == std::end(kTls12Flight) || type != *expected) return false;
    ++expected;
    const size_t high = in.U8();
    const wire::Bytes body = in.Raw(high << 16 | in.U16());
    if (!IsMessage(type, body, group)) return false;
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
  if (der::IsSignedStructure(content)) return std::nullopt;
  if (auto shape = Tls13Shape(content)) return shape;
  if (auto shape = Tls12KeyExchange(content)) return shape;
  if (IsTls12Transcript(content)) return Shape::kTls12Client;
  return std::nullopt;
}

bool SchemeFits(uint16_t scheme, KeyType key, Shape shape) {
  const bool tls12 = shape != Shape::kTls13Server && shape != Shape::kTls13Client;
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
