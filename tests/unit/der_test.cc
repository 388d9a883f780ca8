// SPDX-License-Identifier: Apache-2.0
// Structures that are signed elsewhere are told apart from what a handshake signs: those that
// OpenSSL makes, also in forms that only lenient decoders read, and some that an attacker has
// fitted into a ServerKeyExchange. And no content of a handshake is taken for one of them.

#include "protocol/der.h"

#include <gtest/gtest.h>
#include <openssl/ocsp.h>
#include <openssl/x509.h>

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "protocol/signing.h"
#include "protocol/tls_groups.h"
#include "tests/testlib/certificate.h"
#include "tests/testlib/signed_contents.h"

namespace tlsbroker::der {
namespace {

using std::string_literals::operator""s;
using testlib::Identity;
using testlib::ToOctets;

bool IsOne(const std::string& text) { return IsSignedStructure(ToOctets(text)); }

std::string Length(size_t size) {
  if (size < 0x80) return {static_cast<char>(size)};
  if (size < 0x100) return {'\x81', static_cast<char>(size)};
  return "\x82" + testlib::U16(size);
}
std::string Der(int tag, const std::string& content) {
  return static_cast<char>(tag) + Length(content.size()) + content;
}

// The output of one of OpenSSL's i2d functions.
template <typename Object>
std::string Encoded(int (*encode)(Object*, unsigned char**), Object* object) {
  unsigned char* bytes = nullptr;
  const int size = encode(object, &bytes);
  EXPECT_GT(size, 0);
  std::string text(reinterpret_cast<char*>(bytes), static_cast<size_t>(size));
  OPENSSL_free(bytes);
  return text;
}

// --- What OpenSSL makes ---

TEST(SignedStructures, Certificates) {
  for (const char* kind : {"P-256", "P-384", "RSA 2048", "RSA-PSS 2048", "ED25519"}) {
    const Identity identity(kind);
    EXPECT_TRUE(IsOne(Encoded(i2d_re_X509_tbs, identity.certificate.get()))) << kind;
  }
}

TEST(SignedStructures, Requests) {
  const Identity identity("P-256");
  X509_REQ* request = X509_to_X509_REQ(identity.certificate.get(), nullptr, nullptr);
  EXPECT_TRUE(IsOne(Encoded(i2d_re_X509_REQ_tbs, request)));
  X509_REQ_free(request);
  NETSCAPE_SPKAC* spkac = NETSCAPE_SPKAC_new();
  X509_PUBKEY_set(&spkac->pubkey, identity.key.get());
  ASN1_STRING_set(spkac->challenge, "challenge", -1);
  EXPECT_TRUE(IsOne(Encoded<const NETSCAPE_SPKAC>(i2d_NETSCAPE_SPKAC, spkac)));
  NETSCAPE_SPKAC_free(spkac);
}

TEST(SignedStructures, RevocationLists) {
  const Identity identity("P-256");
  for (const long version : {0, 1}) {
    X509_CRL* list = X509_CRL_new();
    ASN1_TIME* now = ASN1_TIME_set(nullptr, 1'700'000'000);
    X509_CRL_set_version(list, version);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(identity.certificate.get()));
    X509_CRL_set1_lastUpdate(list, now);
    EXPECT_GT(X509_CRL_sign(list, identity.key.get(), EVP_sha256()), 0);
    EXPECT_TRUE(IsOne(Encoded(i2d_re_X509_CRL_tbs, list))) << version;
    ASN1_TIME_free(now);
    X509_CRL_free(list);
  }
}

TEST(SignedStructures, OcspResponses) {
  const Identity identity("P-256");
  for (const unsigned long by_key : {0, OCSP_RESPID_KEY}) {
    OCSP_BASICRESP* response = OCSP_BASICRESP_new();
    ASN1_TIME* now = ASN1_TIME_set(nullptr, 1'700'000'000);
    OCSP_CERTID* id =
        OCSP_cert_to_id(nullptr, identity.certificate.get(), identity.certificate.get());
    OCSP_basic_add1_status(response, id, V_OCSP_CERTSTATUS_GOOD, 0, nullptr, now, nullptr);
    EXPECT_EQ(OCSP_basic_sign(response, identity.certificate.get(), identity.key.get(),
                              EVP_sha256(), nullptr, by_key),
              1);
    EXPECT_TRUE(
        IsOne(Encoded<const OCSP_RESPDATA>(i2d_OCSP_RESPDATA, OCSP_resp_get0_respdata(response))));
    OCSP_CERTID_free(id);
    ASN1_TIME_free(now);
    OCSP_BASICRESP_free(response);
  }
}

// RFC 5652 section 5.4: signedAttrs as a SET; RFC 6960 section 4.1.1: TBSRequest, here with only
// one element.
TEST(SignedStructures, AttributesAndRequestsOfOcsp) {
  const std::string oid = Der(6, "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03");
  const std::string attribute = Der(0x30, oid + Der(0x31, oid));
  EXPECT_TRUE(IsOne(Der(0x31, attribute + attribute)));
  const std::string id =
      Der(0x30, Der(0x30, oid) + Der(4, "name") + Der(4, "key") + Der(2, "\x01"));
  EXPECT_TRUE(IsOne(Der(0x30, Der(0x30, Der(0x30, id)))));
  EXPECT_TRUE(IsOne(Der(0x30, Der(0xa1, "name") + Der(0x30, Der(0x30, id)))));
}

// --- Forms that decoders read that are more lenient than DER ---

class Lenient : public testing::Test {
 protected:
  Lenient() {
    const std::string whole = Encoded(i2d_re_X509_tbs, identity_.certificate.get());
    const size_t header = static_cast<uint8_t>(whole[1]) == 0x82 ? 4 : 3;
    content_ = whole.substr(header);
  }
  const Identity identity_{"P-256"};
  std::string content_;  // without the outer tag and length
};

TEST_F(Lenient, LengthsThatAreLongerThanTheyNeedBe) {
  const std::string size = testlib::U16(content_.size());
  EXPECT_TRUE(IsOne("\x30\x82" + size + content_));
  EXPECT_TRUE(IsOne("\x30\x84"s + "\0\0"s + size + content_));
  EXPECT_TRUE(IsOne("\x30\x88"s + std::string(6, '\0') + size + content_));
  EXPECT_TRUE(IsOne("\x30\xa0"s + std::string(30, '\0') + size + content_));
}

TEST_F(Lenient, TagsThatAreLongerThanTheyNeedBe) {
  EXPECT_TRUE(IsOne("\x3f\x10" + Length(content_.size()) + content_));
  EXPECT_TRUE(IsOne("\x3f\x80\x80\x11" + Length(content_.size()) + content_));
}

TEST_F(Lenient, IndefiniteLengths) {
  EXPECT_TRUE(IsOne("\x30\x80" + content_ + "\0\0"s));
  // The version alone has an indefinite length, and then the whole structure, too.
  const std::string version = "\xa0\x80\x02\x01\x02\0\0"s;
  const std::string rest = content_.substr(5);
  EXPECT_TRUE(IsOne(Der(0x30, version + rest)));
  EXPECT_TRUE(IsOne("\x30\x80" + version + rest + "\0\0"s));
}

TEST_F(Lenient, WhatFollowsDoesNotMatter) {
  EXPECT_TRUE(IsOne(Der(0x30, content_.substr(0, content_.size() / 2))));
  EXPECT_TRUE(IsOne(Der(0x30, content_ + "no element")));
}

TEST_F(Lenient, NotFromEndToEnd) {
  const std::string whole = Der(0x30, content_);
  EXPECT_TRUE(IsOne(whole));
  EXPECT_FALSE(IsOne(whole + "x"));
  EXPECT_FALSE(IsOne(whole.substr(0, whole.size() - 1)));
  EXPECT_FALSE(IsOne(whole.substr(1)));
  for (const int tag : {0x02, 0x04, 0x20, 0x2f, 0x32, 0x70, 0xa0, 0xb0, 0xf0}) {
    EXPECT_FALSE(IsOne(Der(tag, content_))) << tag;
  }
}

TEST(SignedStructuresTest, SmallAndDeepOnes) {
  for (const std::string& bytes :
       {""s, "\x30"s, "\x30\0"s, "\x30\x80"s, "\x30\x80\0"s, "\x30\x80\0\0"s, "\x30\xff"s, "\x3f"s,
        "\x3f\xff\xff\xff\xff\xff"s, "\x30\x8f"s + std::string(15, '\xff')}) {
    EXPECT_FALSE(IsOne(bytes)) << testing::PrintToString(bytes);
  }
  std::string deep = Der(2, "\x01") + Der(2, "\x01");
  while (deep.size() < 32'000) deep = Der(0x30, deep);
  EXPECT_TRUE(IsOne(deep));
  EXPECT_FALSE(IsOne("\x30\x80" + std::string(15'000, '\x30')));
}

// --- Forms that an attacker fits into a ServerKeyExchange ---

// A certificate as short as possible, with so many bytes of padding in its serial number that a
// group's parameters begin after 64 bytes. Its end, where extensions would be, is cut off or filled
// up; a decoder reads it up to there.
std::string Forged(const tls_groups::Group& group, const std::string& tag = "\x30") {
  const size_t total = testlib::Tls12(group.id).size();
  std::string out = tag + Length(total - tag.size() - (total < 130 ? 1 : 2));
  out += "\xa0\x03\x02\x01\x02";
  const std::string serial_end =
      "DOWNGRD\x01" + testlib::ParametersOf(group).substr(0, 4) + (group.is_point ? "\x04" : "");
  const size_t padding = 56 - out.size() - 2;
  out += Der(2, std::string(padding, '\1') + serial_end);
  const std::string algorithm = Der(0x30, Der(6, "\x2a\x86\x48\xce\x3d\x04\x03\x02"));
  const std::string time = Der(0x17, "260101000000Z");
  out += algorithm + Der(0x30, "") + Der(0x30, time + time);
  out.resize(total, '\x77');
  return out;
}

TEST(ForgedCertificates, AreRefusedForWhatTheyAre) {
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    for (const std::string& tag : {"\x30"s, "\x31"s, "\x3f\x10"s}) {
      std::string content = Forged(group, tag);
      EXPECT_FALSE(signing::ShapeOf(ToOctets(content))) << group.name;
      // With another first byte it is a ServerKeyExchange like any other.
      content[0] = '\x33';
      EXPECT_EQ(signing::ShapeOf(ToOctets(content)), signing::Shape::kTls12Server) << group.name;
    }
  }
}

// --- What handshakes sign ---

class Honest : public testing::Test {
 protected:
  // Makes a content of this group, with random bytes wherever handshakes have random ones.
  void Randomize(const tls_groups::Group& group) {
    const std::string fixed = testlib::Tls12(group.id);
    content_.resize(fixed.size());
    Fill(0, 56);
    std::memcpy(content_.data() + 56, fixed.data() + 56, 8 + 5);
    Fill(64 + (group.is_point ? 5 : 4), content_.size());
  }
  void Fill(size_t begin, size_t end) {
    while (begin < end) {
      const uint64_t bytes = random_();
      const size_t size = std::min(end - begin, sizeof(bytes));
      std::memcpy(content_.data() + begin, &bytes, size);
      begin += size;
    }
  }
  std::mt19937_64 random_{1};  // the same in each run
  std::vector<uint8_t> content_;
};

TEST_F(Honest, NoneOfTenMillionIsRefused) {
  for (int i = 0; i < 10'000'000; ++i) {
    const tls_groups::Group& group = tls_groups::kOffered[i % std::size(tls_groups::kOffered)];
    Randomize(group);
    ASSERT_EQ(signing::ShapeOf(content_), signing::Shape::kTls12Server) << group.name << " " << i;
  }
}

// Only contents that begin as a structure of their length: the clients' random bytes do so once in
// 2^15 or 2^23 handshakes.
TEST_F(Honest, FewThatBeginAsAStructureAreRefused) {
  constexpr int kCount = 1'000'000;
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    int refused = 0;
    for (int i = 0; i < kCount; ++i) {
      Randomize(group);
      content_[0] = i % 2 == 0 ? 0x30 : 0x31;
      const bool is_short = content_.size() < 130;
      if (!is_short) content_[1] = 0x81;
      content_[is_short ? 1 : 2] = static_cast<uint8_t>(content_.size() - (is_short ? 2 : 3));
      if (IsSignedStructure(content_)) ++refused;
    }
    EXPECT_GT(refused, 0);
    EXPECT_LT(refused, group.is_point ? kCount >> 11 : kCount >> 15) << group.name;
  }
}

TEST_F(Honest, OtherShapesCannotBegin) {
  const std::string transcript = testlib::Tls12Transcript().text();
  for (const std::string& content : {testlib::Tls13("server"), testlib::Tls13("client"),
                                     testlib::Tls13("server", 48), transcript}) {
    EXPECT_FALSE(IsOne(content));
    EXPECT_TRUE(signing::ShapeOf(ToOctets(content)));
  }
}

}  // namespace
}  // namespace tlsbroker::der
