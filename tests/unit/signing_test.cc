// The signing channel's messages byte by byte, and what a private key may sign: each rule with what
// is one step beyond it.

#include "protocol/signing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tlsbroker::signing {
namespace {

using std::string_literals::operator""s;
using Octets = std::vector<uint8_t>;

Octets ToOctets(const std::string& text) { return Octets(text.begin(), text.end()); }

// --- Messages ---

const Octets kSignVector = {1,                                // Sign
                            1, 0, 4, 0x11, 0x22, 0x33, 0x44,  // request id
                            2, 0, 2, 0x00, 0x07,              // certificate id
                            3, 0, 2, 0x04, 0x03,              // scheme
                            4, 0, 3, 'a',  'b',  'c'};        // content
const Octets kSignatureVector = {2, 1, 0, 4, 0x11, 0x22, 0x33, 0x44, 5, 0, 2, 0xde, 0xad};
const Octets kRefusedVector = {3, 1, 0, 4, 0x11, 0x22, 0x33, 0x44, 6, 0, 1, 2};

TEST(SigningMessages, GoldenVectors) {
  const Octets content = {'a', 'b', 'c'};
  EXPECT_EQ(Encode(Sign{0x11223344, 7, 0x0403, content}), kSignVector);
  EXPECT_EQ(Encode(Reply(Signature{0x11223344, {0xde, 0xad}})), kSignatureVector);
  EXPECT_EQ(Encode(Reply(Refused{0x11223344, Reason::kContent})), kRefusedVector);
}

TEST(SigningMessages, DecodeWhatWasEncoded) {
  const auto sign = DecodeSign(kSignVector);
  ASSERT_TRUE(sign);
  EXPECT_EQ(sign->request_id, 0x11223344u);
  EXPECT_EQ(sign->certificate_id, 7);
  EXPECT_EQ(sign->scheme, schemes::kEcdsaSecp256r1Sha256);
  EXPECT_THAT(sign->content, testing::ElementsAre('a', 'b', 'c'));

  const auto signature = DecodeReply(kSignatureVector);
  ASSERT_TRUE(signature && std::holds_alternative<Signature>(*signature));
  EXPECT_EQ(std::get<Signature>(*signature).request_id, 0x11223344u);
  EXPECT_THAT(std::get<Signature>(*signature).bytes, testing::ElementsAre(0xde, 0xad));

  const auto refused = DecodeReply(kRefusedVector);
  ASSERT_TRUE(refused && std::holds_alternative<Refused>(*refused));
  EXPECT_EQ(std::get<Refused>(*refused).reason, Reason::kContent);
}

TEST(SigningMessages, EachSideTakesOnlyItsOwn) {
  EXPECT_FALSE(DecodeSign(kSignatureVector));
  EXPECT_FALSE(DecodeSign(kRefusedVector));
  EXPECT_FALSE(DecodeReply(kSignVector));
}

TEST(SigningMessages, EveryTruncationAndExtensionIsRefused) {
  for (const Octets& vector : {kSignVector, kSignatureVector, kRefusedVector}) {
    for (size_t size = 0; size < vector.size(); ++size) {
      const wire::Bytes cut = wire::Bytes(vector).first(size);
      EXPECT_FALSE(DecodeSign(cut)) << size;
      EXPECT_FALSE(DecodeReply(cut)) << size;
    }
    Octets longer = vector;
    longer.push_back(0);
    EXPECT_FALSE(DecodeSign(longer));
    EXPECT_FALSE(DecodeReply(longer));
    longer.insert(longer.end(), {0, 0});  // a whole empty TLV of type 0
    EXPECT_FALSE(DecodeSign(longer));
    EXPECT_FALSE(DecodeReply(longer));
  }
}

TEST(SigningMessages, WrongTypesOrdersAndSizesAreRefused) {
  Octets unknown_type = kSignVector;
  unknown_type[0] = 9;
  EXPECT_FALSE(DecodeSign(unknown_type));

  const Octets doubled = {1, 1, 0, 4, 0, 0, 0, 1, 1, 0, 4, 0, 0, 0, 1};
  EXPECT_FALSE(DecodeSign(doubled));

  const Octets swapped = {1, 2, 0, 2, 0, 7, 1, 0, 4, 0, 0, 0, 1, 3, 0, 2, 4, 3, 4, 0, 1, 'a'};
  EXPECT_FALSE(DecodeSign(swapped));

  const Octets short_id = {1, 1, 0, 3, 0, 0, 1, 2, 0, 2, 0, 7, 3, 0, 2, 4, 3, 4, 0, 1, 'a'};
  EXPECT_FALSE(DecodeSign(short_id));

  EXPECT_FALSE(DecodeSign(Encode(Sign{1, 7, 0x0403, {}})));
  const Octets longest(kMaxContent, 'x');
  EXPECT_TRUE(DecodeSign(Encode(Sign{1, 7, 0x0403, longest})));
  const Octets too_long(kMaxContent + 1, 'x');
  EXPECT_FALSE(DecodeSign(Encode(Sign{1, 7, 0x0403, too_long})));
}

TEST(SigningMessages, RepliesHaveBounds) {
  EXPECT_TRUE(DecodeReply(Encode(Reply(Signature{1, Octets(kMaxSignature)}))));
  EXPECT_LE(Encode(Reply(Signature{1, Octets(kMaxSignature)})).size(), kMaxMessage);
  EXPECT_FALSE(DecodeReply(Encode(Reply(Signature{1, Octets(kMaxSignature + 1)}))));
  EXPECT_FALSE(DecodeReply(Encode(Reply(Signature{1, {}}))));
  for (const int reason : {0, 6, 255}) {
    EXPECT_FALSE(DecodeReply(Encode(Reply(Refused{1, static_cast<Reason>(reason)})))) << reason;
  }
}

// --- Shapes ---

std::string Tls13(const std::string& context, size_t hash, size_t spaces = 64) {
  return std::string(spaces, ' ') + context + std::string(hash, '\x5a');
}
const std::string kServer = "TLS 1.3, server CertificateVerify\0"s;
const std::string kClient = "TLS 1.3, client CertificateVerify\0"s;

std::string Tls12(uint8_t curve_type, uint16_t group, uint8_t length, const std::string& share) {
  std::string out(64, '\xa5');
  out += static_cast<char>(curve_type);
  out += static_cast<char>(group >> 8);
  out += static_cast<char>(group & 0xff);
  out += static_cast<char>(length);
  return out + share;
}
std::string Point(size_t size, char first = 4) { return first + std::string(size - 1, '\x77'); }

TEST(SigningShapes, Tls13CertificateVerify) {
  EXPECT_EQ(ShapeOf(ToOctets(Tls13(kServer, 32))), Shape::kTls13Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls13(kServer, 48))), Shape::kTls13Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls13(kClient, 32))), Shape::kTls13Client);
  EXPECT_EQ(ShapeOf(ToOctets(Tls13(kClient, 48))), Shape::kTls13Client);
}

TEST(SigningShapes, Tls13NearMisses) {
  for (const size_t hash : {0, 1, 20, 28, 31, 33, 47, 49, 64, 80}) {
    EXPECT_FALSE(ShapeOf(ToOctets(Tls13(kServer, hash)))) << hash;
  }
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13(kServer, 32, 63))));
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13(kServer, 32, 65))));
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13("TLS 1.3, server CertificateVerify", 33))));  // no 0 byte
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13("TLS 1.3, Server CertificateVerify\0"s, 32))));
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13("TLS 1.4, server CertificateVerify\0"s, 32))));
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13("QUIC, server CertificateVerify\0"s, 32))));
  EXPECT_FALSE(ShapeOf(ToOctets(Tls13("", 32))));
  for (size_t i = 0; i < 64 + kServer.size(); ++i) {
    Octets changed = ToOctets(Tls13(kServer, 32));
    changed[i] ^= 1;
    EXPECT_FALSE(ShapeOf(changed)) << i;
  }
}

TEST(SigningShapes, Tls12ServerKeyExchange) {
  EXPECT_EQ(ShapeOf(ToOctets(Tls12(3, 23, 65, Point(65)))), Shape::kTls12Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls12(3, 24, 97, Point(97)))), Shape::kTls12Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls12(3, 25, 133, Point(133)))), Shape::kTls12Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls12(3, 29, 32, Point(32, 9)))), Shape::kTls12Server);
  EXPECT_EQ(ShapeOf(ToOctets(Tls12(3, 30, 56, Point(56, 9)))), Shape::kTls12Server);
}

TEST(SigningShapes, Tls12NearMisses) {
  struct {
    uint16_t group;
    uint8_t size;
  } const kGroups[] = {{23, 65}, {24, 97}, {25, 133}, {29, 32}, {30, 56}};
  for (const auto& [group, size] : kGroups) {
    const auto share = [](int n) { return Point(static_cast<size_t>(n)); };
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, size, share(size - 1))))) << group;
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, size, share(size + 1))))) << group;
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, size - 1, share(size - 1))))) << group;
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, size + 1, share(size + 1))))) << group;
    for (const uint8_t curve_type : {0, 1, 2, 4}) {  // 1, 2: explicit curves, RFC 4492
      EXPECT_FALSE(ShapeOf(ToOctets(Tls12(curve_type, group, size, share(size))))) << group;
    }
  }
  for (const char first : {0, 2, 3, 5, 6}) {  // 2, 3: compressed points, 6: hybrid ones
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, 23, 65, Point(65, first)))));
  }
  for (const uint16_t group : {0, 22, 26, 28, 31, 256, 279, 4588}) {
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, 65, Point(65))))) << group;
    EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, group, 32, Point(32))))) << group;
  }
  EXPECT_FALSE(ShapeOf(ToOctets(Tls12(3, 23, 65, Point(65)).substr(1))));
  EXPECT_FALSE(ShapeOf(ToOctets("x" + Tls12(3, 23, 65, Point(65)))));
}

// One message of a TLS 1.2 handshake.
std::string Message(char type, size_t size) {
  std::string out(1, type);
  for (const int shift : {16, 8, 0}) out += static_cast<char>(size >> shift & 0xff);
  return out + std::string(size, '\x3c');
}

std::string Transcript(bool with_status = false) {
  return Message(1, 200) + Message(2, 80) + Message(11, 700) +
         (with_status ? Message(22, 300) : "") + Message(12, 140) + Message(13, 60) +
         Message(14, 0) + Message(11, 600) + Message(16, 66);
}

TEST(SigningShapes, Tls12ClientCertificateVerify) {
  EXPECT_EQ(ShapeOf(ToOctets(Transcript())), Shape::kTls12Client);
  EXPECT_EQ(ShapeOf(ToOctets(Transcript(/*with_status=*/true))), Shape::kTls12Client);
  EXPECT_TRUE(IsClientShape(Shape::kTls12Client) && IsClientShape(Shape::kTls13Client));
  EXPECT_FALSE(IsClientShape(Shape::kTls12Server) || IsClientShape(Shape::kTls13Server));
}

TEST(SigningShapes, Tls12TranscriptsThatAreNone) {
  const std::string whole = Transcript();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_FALSE(ShapeOf(ToOctets(whole.substr(0, size)))) << size;
  }
  EXPECT_FALSE(ShapeOf(ToOctets(whole + "x")));
  EXPECT_FALSE(ShapeOf(ToOctets(whole + Message(15, 70)))) << "our own CertificateVerify";
  EXPECT_FALSE(ShapeOf(ToOctets(whole.substr(204)))) << "without ClientHello";
  EXPECT_FALSE(ShapeOf(ToOctets(Message(1, 500) + Message(2, 80))));
  EXPECT_FALSE(ShapeOf(ToOctets(Message(1, 200) + whole)));
  const std::string tiny = Message(1, 0) + Message(2, 0) + Message(11, 0) + Message(12, 0) +
                           Message(13, 0) + Message(14, 0) + Message(11, 0) + Message(16, 32);
  EXPECT_FALSE(ShapeOf(ToOctets(tiny))) << "as short as the other shapes";
}

TEST(SigningShapes, NothingElse) {
  EXPECT_FALSE(ShapeOf({}));
  for (const size_t size : {1, 20, 32, 48, 64, 68, 256}) {  // hashes, randoms alone, anything
    EXPECT_FALSE(ShapeOf(Octets(size, 0x20))) << size;
    EXPECT_FALSE(ShapeOf(Octets(size, 0x00))) << size;
  }
  // A finite field key exchange: prime, generator and share with 16-bit lengths.
  EXPECT_FALSE(ShapeOf(ToOctets(std::string(64, 'r') + "\x01\x00"s + std::string(256, 'p'))));
}

// --- Schemes ---

using enum Shape;

TEST(SigningSchemes, EveryKeyHasExactlyItsSchemes) {
  using Schemes = std::vector<uint16_t>;
  const auto fitting = [](KeyType key, Shape shape) {
    Schemes out;
    for (uint32_t scheme = 0; scheme <= 0xffff; ++scheme) {
      if (SchemeFits(static_cast<uint16_t>(scheme), key, shape)) out.push_back(scheme & 0xffff);
    }
    return out;
  };
  for (const Shape shape : {kTls13Server, kTls13Client}) {
    EXPECT_EQ(fitting(KeyType::kRsa, shape), (Schemes{0x0804, 0x0805, 0x0806}));
    EXPECT_EQ(fitting(KeyType::kRsaPss, shape), (Schemes{0x0809, 0x080a, 0x080b}));
    EXPECT_EQ(fitting(KeyType::kEcP256, shape), (Schemes{0x0403}));
    EXPECT_EQ(fitting(KeyType::kEcP384, shape), (Schemes{0x0503}));
    EXPECT_EQ(fitting(KeyType::kEd25519, shape), (Schemes{0x0807}));
  }
  for (const Shape shape : {kTls12Server, kTls12Client}) {
    EXPECT_EQ(fitting(KeyType::kRsa, shape),
              (Schemes{0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806}));
    EXPECT_EQ(fitting(KeyType::kRsaPss, shape), (Schemes{0x0809, 0x080a, 0x080b}));
    EXPECT_EQ(fitting(KeyType::kEcP256, shape), (Schemes{0x0403, 0x0503, 0x0603}));
    EXPECT_EQ(fitting(KeyType::kEcP384, shape), (Schemes{0x0403, 0x0503, 0x0603}));
    EXPECT_EQ(fitting(KeyType::kEd25519, shape), (Schemes{0x0807}));
  }
}

}  // namespace
}  // namespace tlsbroker::signing
