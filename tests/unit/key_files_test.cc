// SPDX-License-Identifier: Apache-2.0
// What a keyholder finds in files with keys and chains: objects of PEM, and what it says upwards.
// tests/integration/test_keys_and_chains.py has the forms that openssl(1) writes.

#include "broker/keyholder/key_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "broker/keyholder/chain.h"
#include "broker/keyholder/inspection.h"
#include "broker/keyholder/pem_text.h"
#include "protocol/certificate_facts.h"
#include "tests/testlib/certificate.h"

namespace tlsbroker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testlib::Identity;
using testlib::Pem;

std::vector<std::string> Found(std::string_view text) {
  std::vector<std::string> found;
  for (const PemObject& object : FindPemObjects(text)) {
    found.push_back(absl::StrCat(std::string(object.label), "@", object.line,
                                 object.complete ? "" : " cut", " ", object.text.size()));
  }
  return found;
}

TEST(PemText, ObjectsAsPeopleJoinThem) {
  constexpr std::string_view kA = "-----BEGIN A-----\nYQ==\n-----END A-----";  // 38 bytes
  const std::string a(kA);
  EXPECT_THAT(Found(""), ElementsAre());
  EXPECT_THAT(Found("text"), ElementsAre());
  EXPECT_THAT(Found(a), ElementsAre("A@1 38"));
  EXPECT_THAT(Found("\xef\xbb\xbf" + a + "\n"), ElementsAre("A@1 38"));
  EXPECT_THAT(Found("text\nmore\n" + a + a + "\n\n" + a),
              ElementsAre("A@3 38", "A@5 38", "A@9 38"));
  EXPECT_THAT(Found("-----BEGIN A-----\nYQ==\n-----BEGIN A-----\nYQ==\n-----END A-----"),
              ElementsAre("A@1 cut 23", "A@3 38"));
  EXPECT_THAT(Found("-----BEGIN A-----\nYQ==\n-----END B-----\n"), ElementsAre("A@1 cut 39"));
  EXPECT_THAT(Found("-----BEGIN -----\n-----BEGIN \n-----BEGIN A"), ElementsAre());
  EXPECT_THAT(Found("-----BEGIN " + std::string(100, 'x') + "-----"), ElementsAre());
}

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(KeyFiles, HaveWhatIsWanted) {
  using Want = KeyFileReader::Want;
  const Identity ec("P-256");
  const std::string file = Pem(ec.key.get()) + Pem(ec.certificate.get());
  KeyFileReader reader;
  Passphrase none;
  for (const auto& [want, certificates, keys] :
       {std::tuple(Want::kCertificates, 1U, 0U), {Want::kKeys, 0U, 1U}, {Want::kBoth, 1U, 1U}}) {
    const auto read = reader.Parse(Bytes(file), want, none);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->certificates.size(), certificates);
    EXPECT_EQ(read->keys.size(), keys);
  }
}

// s_client -showcerts writes such lines; the byte begins a file in DER, too.
TEST(KeyFiles, ATextInFrontMayBeginWithAZero) {
  const Identity ec("P-256");
  KeyFileReader reader;
  Passphrase none;
  const std::string file = "0 s:CN=a.example\n" + Pem(ec.certificate.get());
  const auto read = reader.Parse(Bytes(file), KeyFileReader::Want::kCertificates, none);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->certificates.size(), 1U);
}

TEST(KeyFiles, OneGoodKeyIsEnough) {
  const Identity ec("P-256");
  KeyFileReader reader;
  Passphrase none;
  const std::string good = Pem(ec.key.get());
  const std::string encrypted = Pem(ec.key.get(), "secret");
  for (const std::string& file : {good + encrypted, encrypted + good}) {
    const auto read = reader.Parse(Bytes(file), KeyFileReader::Want::kKeys, none);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->keys.size(), 1U);
  }
  EXPECT_FALSE(reader.Parse(Bytes(encrypted), KeyFileReader::Want::kKeys, none).ok());
}

TEST(KeyFiles, AsksForAPassphraseOnlyOfWhatIsEncrypted) {
  const Identity ec("P-256");
  KeyFileReader reader;
  Passphrase passphrase;
  ASSERT_TRUE(passphrase.Set("secret\nand more").ok());
  EXPECT_STREQ(passphrase.text(), "secret");
  const auto plain = reader.Parse(Bytes(Pem(ec.key.get())), KeyFileReader::Want::kKeys, passphrase);
  EXPECT_TRUE(plain.ok() && !passphrase.asked());
  const std::string encrypted = Pem(ec.key.get(), "secret");
  EXPECT_TRUE(reader.Parse(Bytes(encrypted), KeyFileReader::Want::kKeys, passphrase).ok());
  EXPECT_TRUE(passphrase.asked());
  ASSERT_TRUE(passphrase.Set("another one").ok());
  const auto wrong = reader.Parse(Bytes(encrypted), KeyFileReader::Want::kKeys, passphrase);
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(passphrase.Set(std::string(Passphrase::kMax + 1, 'x')).ok());
  EXPECT_FALSE(passphrase.Set(std::string_view("a\0b", 3)).ok());
}

TEST(KeyFiles, TheLeafIsTheOneOfTheKey) {
  const Identity ec("P-256");
  const Identity other("P-256");
  KeyFileReader reader;
  Passphrase none;
  const std::string file =
      Pem(other.certificate.get()) + Pem(ec.key.get()) + Pem(ec.certificate.get());
  const auto read = reader.Parse(Bytes(file), KeyFileReader::Want::kBoth, none);
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(LeafFor(read->keys.front().get(), read->certificates), 1);
  EXPECT_EQ(LeafFor(testlib::NewKey("P-256").get(), read->certificates), -1);
  supervision::CertificateFacts facts;
  DescribeChain(read->certificates, 1, SystemAuthorities(), facts);
  EXPECT_EQ(facts.chain_pem, Pem(ec.certificate.get())) << "nothing else is sent";
  EXPECT_EQ(facts.key, "EC P-256");
  EXPECT_TRUE(facts.self_signed);
  EXPECT_THAT(facts.names, ElementsAre("localhost"));
  ASSERT_EQ(facts.findings.size(), 1U);
  EXPECT_THAT(facts.findings[0].wrong, HasSubstr("certificate 1 (line 1, CN=localhost) has not"));
}

// Who reads the facts takes the first link of a chain for granted.
TEST(Facts, AChainOfNothingIsNone) {
  supervision::CertificateFacts facts;
  auto bytes = supervision::EncodeFacts(facts);
  EXPECT_TRUE(supervision::DecodeFacts(bytes));
  facts.chain_pem = "x";
  EXPECT_TRUE(supervision::EncodeFacts(facts).empty());
  ASSERT_THAT(std::vector(bytes.begin(), bytes.begin() + 3), ElementsAre(1, 0, 0));  // chain_pem
  bytes[2] = 1;
  bytes.insert(bytes.begin() + 3, 'x');
  EXPECT_FALSE(supervision::DecodeFacts(bytes));
}

TEST(Facts, ComeBackAsTheyWere) {
  supervision::CertificateFacts facts;
  facts.chain_pem = "chain";
  facts.links = {{"CN=a", 1, 2}};
  facts.names = {"a.test"};
  facts.for_clients = false;
  facts.findings = {{true, supervision::CertificateFacts::About::kKey, "wrong", "right"}};
  const auto bytes = supervision::EncodeFacts(facts);
  const auto decoded = supervision::DecodeFacts(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(supervision::EncodeFacts(*decoded), bytes);
  EXPECT_EQ(decoded->chain_pem, "chain");
  EXPECT_EQ(decoded->links.at(0).not_after, 2U);
  EXPECT_EQ(decoded->findings.at(0).right, "right");
  EXPECT_FALSE(decoded->for_clients);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(supervision::DecodeFacts(wire::Bytes(bytes).first(size)) &&
                 size < bytes.size() - 40)
        << size;
  }
  facts.chain_pem.assign(70'000, 'x');
  EXPECT_TRUE(supervision::EncodeFacts(facts).empty());
}

}  // namespace
}  // namespace tlsbroker
