// SPDX-License-Identifier: Apache-2.0
// Rekey tokens: opening gives what was sealed, and nothing else can be opened.

#include "broker/handshaker/rekey_token.h"

#include <gtest/gtest.h>

#include <numeric>

#include "client-lib/rekey.h"
#include "protocol/request.h"

namespace tlsbroker {
namespace {

SecretBytes Secret(size_t size, uint8_t start) {
  SecretBytes secret;
  const auto room = secret.Resize(size);
  std::iota(room.begin(), room.end(), start);
  return secret;
}

TokenContent Content(Suite suite) {
  const size_t size = suite == Suite::kAes256Gcm ? 48 : 32;
  TokenContent content{.cookie = 0x1122334455667788, .suite = suite, .we_are_server = true};
  content.secrets.client = Secret(size, 1);
  content.secrets.server = Secret(size, 100);
  return content;
}

std::vector<uint8_t> Copy(const SecretBytes& secret) {
  return {secret.bytes().begin(), secret.bytes().end()};
}

TEST(RekeyToken, OpensWhatWasSealed) {
  const SecretBytes sealing = Secret(32, 7);
  for (const Suite suite : {Suite::kAes128Gcm, Suite::kAes256Gcm, Suite::kChaCha20Poly1305}) {
    const TokenContent content = Content(suite);
    const auto token = SealToken(nullptr, sealing, content);
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_LE(token->size(), request::kMaxToken);
    const auto opened = OpenToken(nullptr, sealing, *token);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->cookie, content.cookie);
    EXPECT_EQ(opened->suite, suite);
    EXPECT_TRUE(opened->we_are_server);
    EXPECT_EQ(Copy(opened->secrets.client), Copy(content.secrets.client));
    EXPECT_EQ(Copy(opened->secrets.server), Copy(content.secrets.server));
  }
}

TEST(RekeyToken, NoBitMayDiffer) {
  const SecretBytes sealing = Secret(32, 7);
  const auto token = SealToken(nullptr, sealing, Content(Suite::kAes128Gcm));
  ASSERT_TRUE(token.ok());
  for (size_t bit = 0; bit < 8 * token->size(); ++bit) {
    std::vector<uint8_t> altered = *token;
    altered[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    EXPECT_FALSE(OpenToken(nullptr, sealing, altered).ok()) << bit;
  }
  for (size_t size = 0; size < token->size(); ++size) {
    EXPECT_FALSE(OpenToken(nullptr, sealing, std::span(*token).first(size)).ok()) << size;
  }
  EXPECT_FALSE(OpenToken(nullptr, Secret(32, 8), *token).ok()) << "another broker's";
}

TEST(RekeyToken, TwoOfOneConnectionHaveNothingInCommon) {
  const SecretBytes sealing = Secret(32, 7);
  const auto first = SealToken(nullptr, sealing, Content(Suite::kAes128Gcm));
  const auto second = SealToken(nullptr, sealing, Content(Suite::kAes128Gcm));
  ASSERT_TRUE(first.ok() && second.ok());
  int equal = 0;
  for (size_t i = 0; i < first->size(); ++i) equal += (*first)[i] == (*second)[i] ? 1 : 0;
  EXPECT_LT(equal, 20);
}

TEST(Rekeyer, KnowsWhenAKeyIsUsedUp) {
  client::Rekeyer rekeyer({}, nullptr);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(rekeyer.Admit());
  EXPECT_FALSE(rekeyer.Admit()) << "nine in a second";
  rekeyer.CountWritten((uint64_t{1} << 23) * 16384 - 16384);
  EXPECT_FALSE(rekeyer.Due());
  rekeyer.CountWritten(1);
  EXPECT_TRUE(rekeyer.Due());
  EXPECT_FALSE(rekeyer.Exhausted());
  rekeyer.CountWritten((uint64_t{1} << 24) * 16384);
  EXPECT_TRUE(rekeyer.Exhausted());
  rekeyer.StartCounting();
  EXPECT_FALSE(rekeyer.Due());
}

}  // namespace
}  // namespace tlsbroker
