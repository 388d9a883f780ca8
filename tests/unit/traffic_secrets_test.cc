// SPDX-License-Identifier: Apache-2.0
// Key derivation is compared with RFC 8448 and with OpenSSL's own record layer, and leaves nothing
// of a key behind.

#include "broker/handshaker/traffic_secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "broker/handshaker/crypto_info.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/record_cipher.h"
#include "tests/testlib/memory_session.h"
#include "tests/testlib/stack_remains.h"

namespace tlsbroker {
namespace {

std::string Hex(std::span<const uint8_t> bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

SecretBytes Secret(absl::string_view hex) {
  const std::string bytes = absl::HexStringToBytes(hex);
  return SecretBytes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

SecretBytes Filled(size_t size, uint8_t value) {
  SecretBytes secret;
  std::ranges::fill(secret.Resize(size), value);
  return secret;
}

// RFC 8448 section 3, "Simple 1-RTT Handshake".
Tls13Secrets Rfc8448Secrets() {
  return {Secret("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"),
          Secret("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")};
}

TEST(Tls13, KeysAndIvsOfRfc8448) {
  const auto keys =
      DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", Rfc8448Secrets(), 0x0102030405060708);
  ASSERT_TRUE(keys.ok()) << keys.status();
  // version 0x0304 and cipher 51, both in the machine's byte order; iv, key, salt, record number
  EXPECT_EQ(Hex(keys->tx.crypto_info.bytes()),
            "04033300"
            "dd83549aadf1e984"
            "9f02283b6c9c07efc26bb9f2ac92e356"
            "cf782b88"
            "0102030405060708");
  EXPECT_EQ(Hex(keys->rx.crypto_info.bytes()),
            "04033300"
            "ee08579033e523d9"
            "17422dda596ed5d9acd890e3c63f5051"
            "5b78923d"
            "0000000000000000");
}

TEST(Tls13, TheClientHasTheSameKeysTheOtherWayRound) {
  const auto server = DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", Rfc8448Secrets(), 0);
  const auto client = DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", Rfc8448Secrets(), 0, false);
  ASSERT_TRUE(server.ok() && client.ok());
  EXPECT_EQ(Hex(server->tx.crypto_info.bytes()), Hex(client->rx.crypto_info.bytes()));
  EXPECT_EQ(Hex(server->rx.crypto_info.bytes()), Hex(client->tx.crypto_info.bytes()));
}

TEST(Tls13, RefusesSecretsOfAnotherDigest) {
  Tls13Secrets secrets = Rfc8448Secrets();
  EXPECT_EQ(DeriveTls13(nullptr, Suite::kAes256Gcm, "SHA384", secrets, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  secrets.client.Clear();
  EXPECT_EQ(DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", secrets, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Tls13, ReportsADigestThatOpensslLacks) {
  const auto keys = DeriveTls13(nullptr, Suite::kAes128Gcm, "NO-SUCH-HASH", Rfc8448Secrets(), 0);
  EXPECT_THAT(std::string(keys.status().message()), testing::HasSubstr("NO-SUCH-HASH"));
}

TEST(Tls12, RefusesAMasterSecretOfAnotherLength) {
  const Tls12Secrets secrets{Filled(47, 1), {}, {}};
  EXPECT_EQ(DeriveTls12(nullptr, Suite::kAes128Gcm, "SHA256", secrets, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Tls12, TheNonceGoesOnBehindFinishedAndWraps) {
  const Tls12Secrets secrets{Filled(48, 1), {}, {}};
  const auto iv_after = [&](std::array<uint8_t, 8> finished) {
    const auto keys = DeriveTls12(nullptr, Suite::kAes128Gcm, "SHA256", secrets, finished);
    return Hex(FieldsOf(Suite::kAes128Gcm, keys->tx.crypto_info.bytes()).iv);
  };
  EXPECT_EQ(iv_after({0, 0, 0, 0, 0, 0, 0, 0}), "0000000000000001");
  EXPECT_EQ(iv_after({1, 2, 3, 4, 5, 6, 0xff, 0xff}), "0102030405070000");
  EXPECT_EQ(iv_after({255, 255, 255, 255, 255, 255, 255, 255}), "0000000000000000");
}

TEST(Tls12, BothDirectionsStartBehindFinished) {
  const Tls12Secrets secrets{Filled(48, 1), {}, {}};
  for (const Suite suite : kSuites) {
    const auto keys = DeriveTls12(nullptr, suite, "SHA256", secrets, {9, 9, 9, 9, 9, 9, 9, 9});
    ASSERT_TRUE(keys.ok());
    EXPECT_EQ(Hex(FieldsOf(suite, keys->tx.crypto_info.bytes()).sequence), "0000000000000001");
    EXPECT_EQ(Hex(FieldsOf(suite, keys->rx.crypto_info.bytes()).sequence), "0000000000000001");
  }
}

TEST(SuiteOf, KnowsThePoliciesSuitesAndNoOthers) {
  EXPECT_EQ(SuiteOf(0x1301), Suite::kAes128Gcm);
  EXPECT_EQ(SuiteOf(0x1302), Suite::kAes256Gcm);
  EXPECT_EQ(SuiteOf(0x1303), Suite::kChaCha20Poly1305);
  EXPECT_EQ(SuiteOf(0xC02B), Suite::kAes128Gcm);
  EXPECT_EQ(SuiteOf(0xC030), Suite::kAes256Gcm);
  EXPECT_EQ(SuiteOf(0xCCA9), Suite::kChaCha20Poly1305);
  EXPECT_EQ(SuiteOf(0x1304), std::nullopt);  // TLS_AES_128_CCM_SHA256
  EXPECT_EQ(SuiteOf(0x009C), std::nullopt);  // RSA key exchange
  EXPECT_EQ(SuiteOf(0xC027), std::nullopt);  // CBC
  EXPECT_EQ(SuiteOf(0), std::nullopt);
}

// OpenSSL's record layer decides: the derived keys open its records, and it opens ours.
class Session : public testing::TestWithParam<std::tuple<TlsVersion, Suite>> {
 protected:
  Session() : session_(version(), suite()) {}
  void SetUp() override { ASSERT_TRUE(session_.Handshake()); }

  static TlsVersion version() { return std::get<0>(GetParam()); }
  static Suite suite() { return std::get<1>(GetParam()); }

  static RecordCipher Cipher(const DirectionKeys& keys) {
    auto cipher = RecordCipher::Create(nullptr, version(), suite(), keys);
    EXPECT_TRUE(cipher.ok()) << cipher.status();
    return std::move(cipher).value();
  }
  static void ExpectText(absl::StatusOr<Record> record, std::string_view text) {
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->type, kApplicationDataType);
    EXPECT_EQ(record->text, text);
  }

  MemorySession session_;
};

TEST_P(Session, NegotiatedWhatSuiteOfSays) {
  EXPECT_EQ(SuiteOf(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(session_.server()))),
            suite());
  EXPECT_STREQ(SSL_get_version(session_.server()), VersionName(version()));
}

TEST_P(Session, OpensslsRecordsOpenWithOurKeys) {
  const auto keys = session_.ServerKeys();
  ASSERT_TRUE(keys.ok()) << keys.status();
  RecordCipher tx = Cipher(keys->tx);
  RecordCipher rx = Cipher(keys->rx);
  for (const char* text : {"first", "second", "third"}) {
    ExpectText(tx.Open(session_.ServerWrites(text)), text);
    ExpectText(rx.Open(session_.ClientWrites(text)), text);
  }
}

TEST_P(Session, OpensslOpensRecordsMadeWithOurKeys) {
  const auto server = session_.ServerKeys();
  const auto client = session_.ClientKeys();
  ASSERT_TRUE(server.ok() && client.ok());
  RecordCipher to_client = Cipher(server->tx);
  RecordCipher to_server = Cipher(client->tx);
  for (const char* text : {"first", "second", "third"}) {
    EXPECT_EQ(session_.ClientReads(*to_client.Seal(kApplicationDataType, text)), text);
    EXPECT_EQ(session_.ServerReads(*to_server.Seal(kApplicationDataType, text)), text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Session,
                         testing::Combine(testing::ValuesIn(kVersions),
                                          testing::ValuesIn(kSuites)));

// RFC 5288 section 3: a repeated nonce gives the authentication key away. So the kernel's first
// record must have exactly the nonce that OpenSSL would have used next.
TEST(Tls12, TheFirstNonceIsTheOneThatOpensslWouldUse) {
  for (const Suite suite : {Suite::kAes128Gcm, Suite::kAes256Gcm}) {
    MemorySession session(TlsVersion::kTls12, suite);
    ASSERT_TRUE(session.Handshake());
    const auto keys = session.ServerKeys();
    ASSERT_TRUE(keys.ok()) << keys.status();
    const std::string nonce = session.ServerWrites("x").substr(kRecordHeaderSize, 8);
    EXPECT_EQ(absl::BytesToHexString(nonce), Hex(FieldsOf(suite, keys->tx.crypto_info.bytes()).iv));
  }
}

std::string KeyOf(Suite suite, const DirectionKeys& keys) {
  const auto key = FieldsOf(suite, keys.crypto_info.bytes()).key;
  return {key.begin(), key.end()};
}

TEST(Wiping, NoKeyIsLeftOnTheStack) {
  const Tls12Secrets old_secrets{Filled(48, 0x61), {}, {}};
  const Tls13Secrets new_secrets = Rfc8448Secrets();
  std::vector<std::string> keys;
  const auto derive = [&](bool note) {
    for (const Suite suite : kSuites) {
      const bool long_hash = suite == Suite::kAes256Gcm;
      const Tls13Secrets longer{Filled(48, 0x62), Filled(48, 0x63)};
      const SessionKeys in_12 =
          *DeriveTls12(nullptr, suite, long_hash ? "SHA384" : "SHA256", old_secrets, {});
      const SessionKeys in_13 = *DeriveTls13(nullptr, suite, long_hash ? "SHA384" : "SHA256",
                                             long_hash ? longer : new_secrets, 0);
      if (!note) continue;
      for (const auto* each : {&in_12, &in_13}) {
        keys.push_back(KeyOf(suite, each->tx));
        keys.push_back(KeyOf(suite, each->rx));
      }
    }
  };
  derive(true);
  ASSERT_EQ(keys.size(), 12u);
  EXPECT_FALSE(HoldsPartOf(StackAfter([&] { derive(false); }), keys));
  // This shows that the search works: it finds a key that is not wiped, at a depth of the stack
  // that calls reach.
  EXPECT_TRUE(HoldsPartOf(StackAfter([&] {
                            volatile char frame[4096];
                            std::ranges::copy(keys[0], frame);
                          }),
                          keys));
}

TEST(Wiping, WhatIsMovedFromIsEmpty) {
  auto keys = DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", Rfc8448Secrets(), 0);
  const DirectionKeys taken = std::move(keys->tx);
  EXPECT_FALSE(taken.crypto_info.empty());
  EXPECT_TRUE(keys->tx.crypto_info.empty());
}

static_assert(!std::is_copy_constructible_v<SessionKeys>);
static_assert(!std::is_copy_assignable_v<SessionKeys>);

}  // namespace
}  // namespace tlsbroker
