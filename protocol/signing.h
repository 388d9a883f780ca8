// SPDX-License-Identifier: Apache-2.0
// What crosses the signing channel between a handshaker and the keyholder, and the rule for what a
// private key of the broker ever signs. Decoded in the keyholder as if a stranger had written it: a
// handshaker parses what the Internet sends. Internal, same version on both ends by construction.
//
// A channel is two pipes, because those carry no descriptors, in frames of pipe.h:
//   handshaker -> keyholder: Sign
//   keyholder -> handshaker: Signature or Refused, one for each Sign, in order; each goes into the
//                            pipe whole or not at all, and there is room for one
// A message is a u8 type, then the TLVs of that type (wire.h), each once and in the order of the
// struct's fields. A malformed one is fatal to its channel; a well-formed request that is not
// allowed is Refused.

#ifndef TLSBROKER_PROTOCOL_SIGNING_H_
#define TLSBROKER_PROTOCOL_SIGNING_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "protocol/pipe.h"
#include "protocol/wire.h"

namespace tlsbroker::signing {

// The longest content is that of a TLS 1.2 client, all messages of the handshake so far: the
// server's chain and the names of the authorities that it accepts. Those of the other shapes are
// short; the longest is TLS 1.2 with a P-384 share, 165 bytes.
inline constexpr size_t kMaxContent = 32 * 1024;
inline constexpr size_t kMaxShortContent = 256;
inline constexpr size_t kMaxSignature = 2048;  // RSA with 16384 bits, OpenSSL's limit
inline constexpr size_t kMaxMessage = kMaxContent + 64;
inline constexpr size_t kMaxReply = kMaxSignature + 64;
static_assert(kMaxReply <= pipes::kMaxAtomic);

// The SignatureScheme code points that are in use here (RFC 8446 section 4.2.3).
namespace schemes {
inline constexpr uint16_t kRsaPkcs1Sha256 = 0x0401;
inline constexpr uint16_t kRsaPkcs1Sha384 = 0x0501;
inline constexpr uint16_t kRsaPkcs1Sha512 = 0x0601;
inline constexpr uint16_t kEcdsaSecp256r1Sha256 = 0x0403;
inline constexpr uint16_t kEcdsaSecp384r1Sha384 = 0x0503;
inline constexpr uint16_t kEcdsaSecp521r1Sha512 = 0x0603;
inline constexpr uint16_t kRsaPssRsaeSha256 = 0x0804;
inline constexpr uint16_t kRsaPssRsaeSha384 = 0x0805;
inline constexpr uint16_t kRsaPssRsaeSha512 = 0x0806;
inline constexpr uint16_t kEd25519 = 0x0807;
inline constexpr uint16_t kRsaPssPssSha256 = 0x0809;
inline constexpr uint16_t kRsaPssPssSha384 = 0x080a;
inline constexpr uint16_t kRsaPssPssSha512 = 0x080b;
}  // namespace schemes

struct Sign {
  static constexpr uint8_t kType = 1;
  uint32_t request_id = 0;      // comes back in the answer
  uint16_t certificate_id = 0;  // supervision.h's Certificate::id
  uint16_t scheme = 0;
  wire::Bytes content;  // all that is to be signed, never a hash of it; borrowed
};

struct Signature {
  static constexpr uint8_t kType = 2;
  uint32_t request_id = 0;
  std::vector<uint8_t> bytes;  // as TLS carries it: ECDSA in DER
};

enum class Reason : uint8_t {
  kCertificate = 1,  // not one that this channel may use
  kContent = 2,      // not what a TLS handshake signs that this channel's service may do
  kScheme = 3,       // not one for this key in this version of TLS
  kRate = 4,         // more requests than a handshaker can have
  kFailed = 5,       // the key did not sign
  kFirst = kCertificate,
  kLast = kFailed,
};
const char* ReasonName(Reason reason);  // "certificate", "content", "scheme", "rate", "failed"

struct Refused {
  static constexpr uint8_t kType = 3;
  uint32_t request_id = 0;
  Reason reason = Reason::kFailed;
};

using Reply = std::variant<Signature, Refused>;

std::vector<uint8_t> Encode(const Sign& message);
std::vector<uint8_t> Encode(const Reply& message);

// nullopt for anything that Encode cannot have written.
std::optional<Sign> DecodeSign(wire::Bytes bytes);  // borrows from `bytes`
std::optional<Reply> DecodeReply(wire::Bytes bytes);

// What a content is, by its shape alone. Contents of different shapes cannot be mistaken for each
// other: the byte after the first 64 is 'T' in TLS 1.3 and the curve type, 3, in TLS 1.2; the
// content of a client in TLS 1.2 is longer than any of the others can be, and no real one, with a
// certificate in it, is shorter.
//
// Nor can they be mistaken for what else is signed with such keys. Contents of TLS 1.3 begin with
// spaces, that of a client in TLS 1.2 with the type of ClientHello; but a ServerKeyExchange begins
// with 56 bytes that can be anything, and ends with a public key, which can be nearly anything:
// room for a certificate. So what is a signed structure of ASN.1 from end to end (der.h) has no
// shape. Of the full handshakes of TLS 1.2 that wrongly refuses one in 2^30 with X25519, and one in
// 2^34 with P-256 and P-384: the first bytes of the client's random have to be one of two tags and
// exactly that length (2^-15, or 2^-23 where the length takes two bytes), and three elements have
// to follow (2^-15.8, or 2^-12); tests/unit/der_test.cc. A client that chooses such a random harms
// its own handshake only.
enum class Shape {
  kTls13Server,  // CertificateVerify of a server, RFC 8446 section 4.4.3
  kTls13Client,  // the same of a client
  kTls12Server,  // ServerKeyExchange, RFC 8422 section 5.4, of a server that can do TLS 1.3, too
  kTls12AloneServer,  // the same of a server that cannot
  kTls12Client,       // CertificateVerify, RFC 5246 section 7.4.8: the messages before it, whole
};
std::optional<Shape> ShapeOf(wire::Bytes content);

// The kinds of key that the keyholder takes.
enum class KeyType { kRsa, kRsaPss, kEcP256, kEcP384, kEd25519 };

inline bool IsClientShape(Shape shape) {
  return shape == Shape::kTls13Client || shape == Shape::kTls12Client;
}

// Whether TLS lets such a key sign such a content with this scheme: TLS 1.3 ties ECDSA's hash to
// the curve and knows PKCS#1 v1.5 only inside certificates (RFC 8446 section 4.2.3).
bool SchemeFits(uint16_t scheme, KeyType key, Shape shape);

}  // namespace tlsbroker::signing

#endif  // TLSBROKER_PROTOCOL_SIGNING_H_
