// SPDX-License-Identifier: Apache-2.0
// The signing channel's messages byte by byte, and what a private key may sign: each rule is tried
// with something that just breaks it.

#include "protocol/signing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/tls_groups.h"
#include "tests/testlib/signed_contents.h"

namespace tlsbroker::signing {
namespace {

using namespace testlib;
using std::string_literals::operator""s;
using Octets = std::vector<uint8_t>;

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
    longer.insert(longer.end(), {0, 0});  // a complete empty TLV of type 0
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

std::optional<Shape> ShapeOfText(const std::string& text) { return ShapeOf(ToOctets(text)); }

TEST(SigningShapes, Tls13CertificateVerify) {
  for (const size_t hash : {32, 48}) {
    EXPECT_EQ(ShapeOfText(Tls13("server", hash)), Shape::kTls13Server);
    EXPECT_EQ(ShapeOfText(Tls13("client", hash)), Shape::kTls13Client);
  }
}

TEST(SigningShapes, Tls13NearMisses) {
  for (const size_t hash : {0, 1, 20, 28, 31, 33, 47, 49, 64, 80}) {
    EXPECT_FALSE(ShapeOfText(Tls13("server", hash))) << hash;
  }
  EXPECT_FALSE(ShapeOfText(Tls13("server", 32, 63)));
  EXPECT_FALSE(ShapeOfText(Tls13("server", 32, 65)));
  const std::string spaces(64, ' ');
  const std::string hash(32, '\x5a');
  for (const std::string& context :
       {"TLS 1.3, server CertificateVerify"s,  // no 0 byte
        "TLS 1.3, Server CertificateVerify\0"s, "TLS 1.4, server CertificateVerify\0"s,
        "QUIC, server CertificateVerify\0"s, "TLS, server delegated credentials\0"s, ""s}) {
    EXPECT_FALSE(ShapeOfText(spaces + context + hash)) << context;
  }
  const Octets right = ToOctets(Tls13("server"));
  for (size_t i = 0; i < right.size() - hash.size(); ++i) {
    Octets changed = right;
    changed[i] ^= 1;
    EXPECT_FALSE(ShapeOf(changed)) << i;
  }
}

TEST(SigningShapes, Tls12ServerKeyExchange) {
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    const std::string content = Tls12(group.id);
    EXPECT_EQ(ShapeOfText(content), Shape::kTls12Server) << group.name;
    EXPECT_LE(content.size(), kMaxShortContent);
  }
}

TEST(SigningShapes, Tls12NearMisses) {
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    const auto expect_none = [&](uint8_t curve_type, size_t length, size_t size) {
      const auto parameters =
          Parameters(curve_type, group.id, static_cast<uint8_t>(length), Point(size));
      EXPECT_FALSE(ShapeOfText(Randoms() + parameters))
          << group.name << " " << length << " " << size;
    };
    const size_t size = group.share_size;
    expect_none(3, size, size - 1);
    expect_none(3, size, size + 1);
    expect_none(3, size - 1, size - 1);
    expect_none(3, size + 1, size + 1);
    for (const uint8_t curve_type : {0, 1, 2, 4}) {  // 1, 2: explicit curves, RFC 4492
      expect_none(curve_type, size, size);
    }
  }
  for (const char first : {0, 2, 3, 5, 6}) {  // 2, 3: compressed points, 6: hybrid ones
    EXPECT_FALSE(ShapeOfText(Randoms() + Parameters(3, 23, 65, Point(65, first))));
  }
  EXPECT_FALSE(ShapeOfText(Tls12(23).substr(1)));
  EXPECT_FALSE(ShapeOfText("x" + Tls12(23)));
}

// Groups that exist, with the right length of their share, and code points next to offered ones.
TEST(SigningShapes, Tls12GroupsThatAreNotOffered) {
  for (const auto& [id, size] : {std::pair(25, 133), std::pair(30, 56)}) {  // P-521, X448
    EXPECT_FALSE(ShapeOfText(Randoms() + Parameters(3, static_cast<uint16_t>(id),
                                                    static_cast<uint8_t>(size), Point(size))));
  }
  for (const uint16_t id : {0, 22, 26, 28, 31, 256, 279, 4588}) {
    for (const uint8_t size : {32, 65, 97}) {
      EXPECT_FALSE(ShapeOfText(Randoms() + Parameters(3, id, size, Point(size)))) << id;
    }
  }
}

// RFC 8446 section 4.1.3: every service has TLS 1.3, but those with policy "tls12".
TEST(SigningShapes, Tls12RandomsSayThatThereIsTls13) {
  for (size_t i = 56; i < 64; ++i) {
    Octets changed = ToOctets(Tls12());
    changed[i] ^= 1;
    EXPECT_EQ(ShapeOf(changed), Shape::kTls12AloneServer) << i;
  }
}

TEST(SigningShapes, Tls12ClientCertificateVerify) {
  Tls12Transcript transcript;
  EXPECT_EQ(ShapeOfText(transcript.text()), Shape::kTls12Client);
  transcript.status = Message(22, Filled(300));
  EXPECT_EQ(ShapeOfText(transcript.text()), Shape::kTls12Client);
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    transcript.key_exchange = Tls12Transcript::KeyExchange(group);
    transcript.own_key_exchange = Tls12Transcript::OwnKeyExchange(group);
    EXPECT_EQ(ShapeOfText(transcript.text()), Shape::kTls12Client) << group.name;
  }
  EXPECT_TRUE(IsClientShape(Shape::kTls12Client) && IsClientShape(Shape::kTls13Client));
  EXPECT_FALSE(IsClientShape(Shape::kTls12Server) || IsClientShape(Shape::kTls13Server));
  EXPECT_FALSE(IsClientShape(Shape::kTls12AloneServer));
}

TEST(SigningShapes, Tls12TranscriptsThatAreNone) {
  const Tls12Transcript right;
  const std::string whole = right.text();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_FALSE(ShapeOfText(whole.substr(0, size))) << size;
  }
  EXPECT_FALSE(ShapeOfText(whole + "x"));
  EXPECT_FALSE(ShapeOfText(whole + Message(15, Filled(70)))) << "our own CertificateVerify";
  EXPECT_FALSE(ShapeOfText(right.client_hello + whole));
  EXPECT_FALSE(ShapeOfText(right.client_hello + right.server_hello));
}

TEST(SigningShapes, Tls12TranscriptsWithOneWrongMessage) {
  const auto expect_none = [](std::string Tls12Transcript::*message, const std::string& wrong) {
    Tls12Transcript transcript;
    transcript.*message = wrong;
    EXPECT_FALSE(ShapeOfText(transcript.text())) << testing::PrintToString(wrong);
  };
  using T = Tls12Transcript;
  for (auto message : {&T::client_hello, &T::server_hello, &T::certificate, &T::key_exchange,
                       &T::request, &T::done, &T::own_certificate, &T::own_key_exchange}) {
    expect_none(message, "");
  }
  for (const std::string& version : {"\x03\x01"s, "\x03\x04"s, "\x30\x82"s}) {
    expect_none(&T::client_hello, Message(1, version + Filled(198)));
    expect_none(&T::server_hello, Message(2, version + Filled(78)));
  }
  expect_none(&T::client_hello, Message(1, Hello(37)));
  expect_none(&T::certificate, Message(11, ""));
  expect_none(&T::request, Message(13, ""));
  expect_none(&T::done, Message(14, "x"));
  const std::string parameters = ParametersOf(GroupWith(29));
  for (const std::string& body :
       {parameters, parameters + "\x04\x03"s + U16(71) + Filled(70),
        parameters + "\x04\x03"s + U16(71) + Filled(72), Filled(140),
        Parameters(3, 25, 133, Point(133)) + "\x04\x03"s + U16(71) + Filled(71)}) {
    expect_none(&T::key_exchange, Message(12, body));
  }
  expect_none(&T::own_key_exchange, T::OwnKeyExchange(GroupWith(23)));
  expect_none(&T::own_key_exchange, Message(16, "\x20" + Filled(31)));
  expect_none(&T::own_key_exchange, Message(16, "\x20" + Filled(33)));
}

TEST(SigningShapes, NothingElse) {
  EXPECT_FALSE(ShapeOf({}));
  for (const size_t size : {1, 20, 32, 48, 64, 68, 256}) {  // hashes, randoms without parameters,
                                                            // anything
    EXPECT_FALSE(ShapeOf(Octets(size, 0x20))) << size;
    EXPECT_FALSE(ShapeOf(Octets(size, 0x00))) << size;
  }
  // A finite field key exchange: prime, generator and share with 16-bit lengths.
  EXPECT_FALSE(ShapeOfText(Randoms() + "\x01\x00"s + std::string(256, 'p')));
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
  for (const Shape shape : {kTls12Server, kTls12AloneServer, kTls12Client}) {
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
