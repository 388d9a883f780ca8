// SPDX-License-Identifier: Apache-2.0
// Keyholders that look into files, and say what no keyholder says unless it was taken over: that is
// an error of that service, and the supervisor neither waits for ever nor takes it.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include "broker/supervisor/inspections.h"
#include "broker/support/coroutines.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class InspectionsTest : public NoFdLeaks {
 protected:
  // The URI of its key tells the child what to do (supervisor_child.cc).
  void Add(const std::string& behaviour) {
    auto credential = std::make_shared<Credential>();
    credential->key_uri = credential->key_identity = "x:" + behaviour;
    credential->chain_file = UniqueFd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    ServiceSetup service;
    service.config.name = {behaviour, {}};
    ServiceSetup::Certificate certificate;
    certificate.config.name = {"of " + behaviour, {}};
    certificate.config.chain = {{Source::Kind::kPath, "/c"}, {3, 9}};
    certificate.config.key = {{Source::Kind::kUri, "x:y"}, {4, 7}};
    certificate.credential = credential;
    service.certificates.push_back(certificate);
    service.server_certificates = {0};
    setup_.file = "f";
    setup_.services.push_back(std::make_shared<const ServiceSetup>(std::move(service)));
    setup_.credentials.push_back(std::move(credential));
  }

  std::vector<std::string> Inspect(const supervisor::Setup* previous = nullptr) {
    asio::io_context io(1);
    const asio::any_io_executor executor = io.get_executor();
    const InspectionContext context{
        .programs = programs_, .log = nullptr, .give_up = [this] { return give_up_; }};
    Diagnostics diagnostics("f");
    const auto run = [&]() -> asio::awaitable<void> {
      lines_ = co_await InspectCertificates(executor, setup_, previous, context, diagnostics);
    };
    asio::co_spawn(io, run, EndsProcess());
    io.run();
    return diagnostics.errors();
  }

  const Programs programs_{SUPERVISOR_CHILD, "", "", "", ""};
  supervisor::Setup setup_;
  std::vector<std::string> lines_;
  bool give_up_ = false;
};

TEST_F(InspectionsTest, WhatIsFoundOutIsInTheCredential) {
  Add("inspect-good");
  EXPECT_THAT(Inspect(), IsEmpty());
  EXPECT_EQ(setup_.credentials[0]->chain_pem, std::string(5000, 'c')) << "in two pieces";
  EXPECT_FALSE(setup_.credentials[0]->chain_file) << "nobody needs it any more";
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("certificate \"of inspect-good\": a.test")));
}

TEST_F(InspectionsTest, FilesThatAreTheSameAreNotLookedAtAgain) {
  Add("inspect-good");
  ASSERT_THAT(Inspect(), IsEmpty());
  const supervisor::Setup before = std::exchange(setup_, {});
  Add("inspect-good");
  EXPECT_THAT(Inspect(&before), IsEmpty());
  EXPECT_EQ(setup_.credentials[0]->chain_pem, before.credentials[0]->chain_pem);
  EXPECT_THAT(lines_, IsEmpty());
  setup_ = {};
  Add("inspect-good");
  setup_.credentials[0]->chain_identity = "another one";
  EXPECT_THAT(Inspect(&before), IsEmpty());
  EXPECT_EQ(lines_.size(), 1U);
}

TEST_F(InspectionsTest, LiesAreErrors) {
  for (const char* behaviour :
       {"inspect-unknown", "inspect-garbage", "inspect-endless", "inspect-twice", "inspect-nothing",
        "inspect-counters", "exits", "garbage", "bad-key"}) {
    setup_ = {};
    Add(behaviour);
    EXPECT_THAT(Inspect(), ElementsAre(HasSubstr("the certificates of service \"" +
                                                 std::string(behaviour) + "\" could not be")))
        << behaviour;
    EXPECT_THAT(lines_, IsEmpty()) << behaviour;
  }
}

TEST_F(InspectionsTest, OneThatIsSilentIsGivenUp) {
  Add("stubborn");
  give_up_ = true;
  EXPECT_EQ(Inspect().size(), 1U);
}

}  // namespace
}  // namespace tlsbroker::supervisor
