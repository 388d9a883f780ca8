// A generation with children that behave and with children that do not: a handshaker may have been
// taken over by the Internet, and what it says then must end its own life and nothing else.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "broker/supervisor/generation.h"
#include "broker/supervisor/start_failure.h"
#include "tests/unit/supervisor_loop.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() { EXPECT_TRUE(ticket_keys_.Rotate().ok()); }

  ~GenerationTest() override {
    if (!generation_) return;
    generation_->Kill();
    EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process is left";
  }

  // Children look at the certificate's name for what to do (supervisor_child.cc).
  void Start(const std::string& behaviour, uint32_t handshakers = 2) {
    auto setup = std::make_shared<supervisor::Setup>();
    setup->file = "f";
    setup->handshakers = handshakers;
    CertificateConfig certificate;
    certificate.name = {behaviour, {2, 1}};
    certificate.chain = {{Source::Kind::kPath, "/c"}, {3, 9}};
    certificate.key = {{Source::Kind::kUri, "x:y"}, {4, 7}};
    setup->config.certificates.push_back(certificate);
    setup->credentials.push_back({.chain_pem = "chain", .key_file = {}, .key_uri = "x:y"});
    ServiceConfig service;
    service.name = {"s", {5, 1}};
    service.certificates = {0};
    setup->config.services.push_back(service);
    setup->queues.push_back(std::make_shared<Queue>(*Queue::Open(16)));
    generation_ = std::make_shared<Generation>(io_.get_executor(), 1, setup, ticket_keys_,
                                               [this] { ++changes_; });
    ASSERT_TRUE(generation_->Start({SUPERVISOR_CHILD, SUPERVISOR_CHILD}).ok());
  }

  bool BecomesReady() {
    return RunUntil(io_, [this] { return generation_->ready() || generation_->broken(); }) &&
           generation_->ready();
  }

  bool BecomesBroken() {
    return RunUntil(io_, [this] { return generation_->broken(); });
  }

  asio::io_context io_{1};
  TicketKeyRing ticket_keys_;
  std::shared_ptr<Generation> generation_;
  int changes_ = 0;
};

TEST_F(GenerationTest, BecomesReadyAndCounts) {
  Start("good");
  ASSERT_TRUE(BecomesReady());
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->counters().accepted == 14; }));
  EXPECT_FALSE(generation_->broken());
}

// There is always a next message, and between two of them it is others' turn.
TEST_F(GenerationTest, HandshakerThatFloodsHoldsUpNobody) {
  Start("ready-handshaker-floods", /*handshakers=*/1);
  int before = 0;
  int most_at_once = 0;
  EXPECT_TRUE(RunUntil(io_, [&] {
    most_at_once = std::max(most_at_once, changes_ - before);
    before = changes_;
    return generation_->counters().accepted == 10'000;
  }));
  EXPECT_LE(most_at_once, 2);
  EXPECT_FALSE(generation_->broken());
}

// The keyholder has nothing to count.
TEST_F(GenerationTest, KeyholderThatSendsCountersIsEnded) {
  Start("ready-then-counters", /*handshakers=*/0);
  ASSERT_TRUE(BecomesBroken());
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
}

TEST_F(GenerationTest, WithoutHandshakersForTheCheck) {
  Start("ready-only", /*handshakers=*/0);
  ASSERT_TRUE(BecomesReady());
  EXPECT_TRUE(generation_->handshakers_gone());
  EXPECT_FALSE(generation_->gone());
  generation_->EndKeyholder();
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
  EXPECT_FALSE(generation_->broken());
}

TEST_F(GenerationTest, DrainEndsHandshakersAndThenTheKeyholder) {
  Start("ready-only");
  ASSERT_TRUE(BecomesReady());
  generation_->Drain(milliseconds(1000));
  ASSERT_TRUE(RunUntil(io_, [this] { return generation_->handshakers_gone(); }));
  EXPECT_FALSE(generation_->gone());
  generation_->EndKeyholder();
  ASSERT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
  EXPECT_FALSE(generation_->broken());
}

TEST_F(GenerationTest, SaysWhenItsListenersAreClosed) {
  Start("ready-long-drain");
  ASSERT_TRUE(BecomesReady());
  generation_->Accept();
  EXPECT_FALSE(generation_->listeners_closed());
  generation_->Drain(milliseconds(60'000));
  ASSERT_TRUE(RunUntil(io_, [this] { return generation_->listeners_closed(); }));
  EXPECT_FALSE(generation_->handshakers_gone());
  EXPECT_FALSE(generation_->broken());
}

TEST_F(GenerationTest, TicketKeysReachReadyHandshakers) {
  Start("ready-only");
  ASSERT_TRUE(BecomesReady());
  ASSERT_TRUE(ticket_keys_.Rotate().ok());
  generation_->SendTicketKeys();
  EXPECT_FALSE(generation_->broken());
}

TEST_F(GenerationTest, FailureIsBlamedOnItsPlaceInTheConfiguration) {
  Start("bad-key");
  ASSERT_TRUE(BecomesBroken());
  ASSERT_TRUE(generation_->failed().has_value());
  Diagnostics diagnostics("f");
  EXPECT_TRUE(BlameConfig(*generation_->failed(), generation_->setup()->config, diagnostics));
  EXPECT_EQ(diagnostics.errors(),
            std::vector<std::string>{"f:4:7: certificate \"bad-key\": does not match; the private "
                                     "key that belongs to 'chain' is needed"});
}

TEST_F(GenerationTest, FailureOfACertificateThatDoesNotExistHasNoPlace) {
  Start("bad-id");
  ASSERT_TRUE(BecomesBroken());
  Diagnostics diagnostics("f");
  EXPECT_FALSE(BlameConfig(*generation_->failed(), generation_->setup()->config, diagnostics));
  EXPECT_FALSE(diagnostics.failed());
}

class RudeChildTest : public GenerationTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(RudeChildTest, IsEndedAtOnce) {
  Start(GetParam());
  ASSERT_TRUE(BecomesBroken());
  EXPECT_TRUE(RunUntil(
      io_, [this] { return generation_->gone(); }, milliseconds(3000)));
}

INSTANTIATE_TEST_SUITE_P(All, RudeChildTest,
                         ::testing::Values("counters-before-ready", "garbage", "exits",
                                           "ready-then-descriptor", "ready-twice",
                                           "ready-then-drained", "ready-then-draining"));

TEST_F(GenerationTest, ChildThatIgnoresTheEndOfFileIsKilled) {
  Start("stubborn");
  EXPECT_FALSE(RunUntil(
      io_, [this] { return generation_->ready(); }, milliseconds(200)));
  generation_->Drain(milliseconds(1));
  generation_->EndKeyholder();
  EXPECT_TRUE(RunUntil(
      io_, [this] { return generation_->gone(); }, Generation::kEndTimeout + milliseconds(3000)));
}

TEST_F(GenerationTest, ProgramThatIsMissingIsAnError) {
  Start("ready-only", 0);
  const auto broken = std::make_shared<Generation>(io_.get_executor(), 2, generation_->setup(),
                                                   ticket_keys_, [] {});
  const absl::Status started = broken->Start({"/nonexistent/keyholder", "/nonexistent/h"});
  EXPECT_EQ(started.message(), "executing /nonexistent/keyholder: No such file or directory");
}

TEST(TicketKeyRingTest, NewKeysComeFirstAndThreeAreKept) {
  TicketKeyRing ring;
  std::vector<std::vector<supervision::TicketKey>> seen;
  for (size_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(ring.Rotate().ok());
    const TicketKeysMessage message = ring.Message();
    seen.push_back(std::get<supervision::TicketKeys>(message.message()).keys);
    EXPECT_EQ(seen.back().size(), std::min<size_t>(i, 3));
  }
  EXPECT_EQ(seen[4][1].cipher, seen[3][0].cipher);
  EXPECT_EQ(seen[4][2].mac, seen[2][0].mac);
  EXPECT_NE(seen[4][0].name, seen[4][1].name);
}

}  // namespace
}  // namespace tlsbroker::supervisor
