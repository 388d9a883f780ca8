// SPDX-License-Identifier: Apache-2.0
// Which certificates are chosen for a name.

#include "broker/handshaker/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/handshaker.h"

namespace tlsbroker {
namespace {

using ::testing::ElementsAre;
using testlib::Loaded;

struct CertificateChoiceTest : testing::Test {
  const std::shared_ptr<const LoadedCertificate> first =
      Loaded("P-256", {"first.test", "www.first.test"});
  const std::shared_ptr<const LoadedCertificate> second = Loaded("P-256", {"second.test"});
};

TEST_F(CertificateChoiceTest, ByName) {
  const CertificateChoice choice({first, second});
  EXPECT_THAT(choice.For("www.first.test"), ElementsAre(first));
  EXPECT_THAT(choice.For("second.test"), ElementsAre(second));
  EXPECT_THAT(choice.For("SECOND.Test"), ElementsAre(second)) << "RFC 6066 section 3";
}

TEST_F(CertificateChoiceTest, TheFirstIsTheDefault) {
  const CertificateChoice choice({first, second});
  EXPECT_THAT(choice.default_group(), ElementsAre(first));
  for (const char* name : {"third.test", "", ".", "sub.second.test", "test", "first.test."}) {
    EXPECT_THAT(choice.For(name), ElementsAre(first)) << name;
  }
}

// A name in SNI has no dot at its end (RFC 6066 section 3), but some clients send it as they got
// it.
TEST_F(CertificateChoiceTest, ADotAtTheEndIsNothing) {
  const CertificateChoice choice({first, second});
  EXPECT_THAT(choice.For("second.test."), ElementsAre(second));
  EXPECT_THAT(choice.For("second.test.."), ElementsAre(first));
  EXPECT_THAT(CertificateChoice({first, Loaded("P-256", {"*.second.test"})}).For("a.second.test."),
              testing::Not(ElementsAre(first)));
}

// Made an hour ago, for these seconds.
std::shared_ptr<const LoadedCertificate> ValidIn(uint64_t from, uint64_t until,
                                                 const std::string& kind,
                                                 std::vector<std::string> names) {
  auto loaded = std::make_shared<LoadedCertificate>();
  loaded->key = testlib::NewKey(kind);
  loaded->leaf = testlib::NewCertificate(loaded->key.get(), names.front());
  loaded->names = std::move(names);
  loaded->not_before = from;
  loaded->not_after = until;
  return loaded;
}

TEST(CertificateChoiceInTime, AValidOneGoesBeforeOneThatIsNot) {
  const auto old = ValidIn(100, 200, "P-256", {"a.test"});
  const auto next = ValidIn(150, 300, "P-256", {"a.test"});
  const CertificateChoice choice({old, next});
  EXPECT_THAT(choice.For("a.test", 120), ElementsAre(old));
  EXPECT_THAT(choice.For("a.test", 199), ElementsAre(old)) << "the first of the valid ones";
  EXPECT_THAT(choice.For("a.test", 200), ElementsAre(next));
  EXPECT_THAT(choice.default_group(200), ElementsAre(next)) << "the default has its name";
  EXPECT_THAT(choice.For("a.test", 300), ElementsAre(old)) << "none is better than the other";
  EXPECT_THAT(choice.For("a.test", 50), ElementsAre(old)) << "the clock was set back";
  EXPECT_THAT(choice.For("a.test", 160), ElementsAre(old));
}

TEST(CertificateChoiceInTime, AValidWildcardGoesBeforeAnExpiredName) {
  const auto exact = ValidIn(100, 200, "P-256", {"a.test.org"});
  const auto wildcard = ValidIn(100, 300, "P-256", {"*.test.org"});
  const CertificateChoice choice({exact, wildcard});
  EXPECT_THAT(choice.For("a.test.org", 150), ElementsAre(exact));
  EXPECT_THAT(choice.For("a.test.org", 250), ElementsAre(wildcard));
  EXPECT_THAT(choice.For("a.test.org", 350), ElementsAre(exact)) << "both have expired";
}

// The client would prefer ECDSA, perhaps, and not look for the other one.
TEST(CertificateChoiceInTime, AnExpiredOneOfAnotherKindIsLeftOut) {
  const auto ec = ValidIn(100, 200, "P-256", {"a.test"});
  const auto rsa = ValidIn(100, 300, "RSA 2048", {"a.test"});
  const CertificateChoice choice({ec, rsa});
  EXPECT_THAT(choice.For("a.test", 150), ElementsAre(ec, rsa));
  EXPECT_THAT(choice.For("a.test", 250), ElementsAre(rsa));
  EXPECT_THAT(choice.For("a.test", 350), ElementsAre(ec, rsa));
}

// RFC 6125 section 6.4.3: a wildcard stands for the first label, and for exactly one.
TEST_F(CertificateChoiceTest, Wildcards) {
  const auto any = Loaded("P-256", {"*.second.test"});
  const CertificateChoice choice({first, any, second});
  EXPECT_THAT(choice.For("a.second.test"), ElementsAre(any));
  EXPECT_THAT(choice.For("second.test"), ElementsAre(second));
  EXPECT_THAT(choice.For("a.b.second.test"), ElementsAre(first));
  const auto exact = Loaded("P-256", {"a.second.test"});
  EXPECT_THAT(CertificateChoice({first, any, exact}).For("a.second.test"), ElementsAre(exact))
      << "the whole name goes before a wildcard, whatever the order";
}

TEST_F(CertificateChoiceTest, OneOfEachKeyType) {
  const auto rsa = Loaded("RSA 2048", {"second.test"});
  const auto later = Loaded("P-384", {"second.test"});
  const CertificateChoice choice({first, second, rsa, later});
  EXPECT_THAT(choice.For("second.test"), ElementsAre(second, rsa)) << "the first one of a type";
}

TEST_F(CertificateChoiceTest, TheDefaultHasTheOthersOfItsNames) {
  const auto rsa = Loaded("RSA 2048", {"www.first.test"});
  const CertificateChoice choice({first, second, rsa});
  EXPECT_THAT(choice.default_group(), ElementsAre(first, rsa));
  EXPECT_THAT(choice.For("first.test"), ElementsAre(first)) << "rsa is not for this name";
}

TEST(KeyAlgorithm, AsTheHandOffHasIt) {
  for (const auto& [kind, text] :
       std::initializer_list<std::pair<const char*, const char*>>{{"P-256", "EC256"},
                                                                  {"P-521", "EC521"},
                                                                  {"RSA 2048", "RSA2048"},
                                                                  {"RSA-PSS 2048", "RSA2048"},
                                                                  {"ED25519", "ED25519"},
                                                                  {"ED448", ""}}) {
    EXPECT_EQ(KeyAlgorithm(testlib::Identity(kind).certificate.get()), text) << kind;
  }
}

}  // namespace
}  // namespace tlsbroker
