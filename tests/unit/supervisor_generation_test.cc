// SPDX-License-Identifier: Apache-2.0
// A generation with children that behave and with children that do not: somebody on the Internet
// may have taken a handshaker over, and what it says then must end only the handshaker itself.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "broker/supervisor/generation.h"
#include "broker/supervisor/start_failure.h"
#include "tests/unit/loop.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;
using testlib::RunUntil;

class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() { EXPECT_TRUE(ticket_keys_.Rotate().ok()); }

  ~GenerationTest() override {
    if (!generation_) return;
    generation_->Kill();
    EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process is left";
  }

  // The certificate's name tells the children what to do (supervisor_child.cc).
  void Start(const std::string& behaviour, uint32_t handshakers = 2, size_t certificates = 1) {
    ServiceSetup setup;
    setup.file = "f";
    ServiceSetup::Certificate certificate;
    certificate.config.name = {behaviour, {2, 1}};
    certificate.config.chain = {{Source::Kind::kPath, "/c"}, {3, 9}};
    certificate.config.key = {{Source::Kind::kUri, "x:y"}, {4, 7}};
    certificate.credential = std::make_shared<const Credential>(
        Credential{.chain_pem = "chain", .key_file = {}, .key_uri = "x:y", .key_identity = ""});
    setup.certificates.assign(certificates, certificate);
    setup.server_certificates = {0};
    setup.config.name = {"s", {5, 1}};
    setup.queue = std::make_shared<Queue>(*Queue::Open(16, "s"));
    setup_ = std::make_shared<const ServiceSetup>(std::move(setup));
    generation_ = std::make_shared<Generation>(io_.get_executor(), 1, setup_, ticket_keys_,
                                               programs_, nullptr, [this] { ++changes_; });
    ASSERT_TRUE(generation_->Start(handshakers).ok());
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
  const Programs programs_{SUPERVISOR_CHILD, SUPERVISOR_CHILD, ""};
  std::shared_ptr<const ServiceSetup> setup_;
  std::shared_ptr<Generation> generation_;
  int changes_ = 0;
};

TEST_F(GenerationTest, BecomesReadyAndCounts) {
  Start("good");
  ASSERT_TRUE(BecomesReady());
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->counters().accepted == 14; }));
  EXPECT_FALSE(generation_->broken());
}

// There is always a next message, but between two of them others have their turn.
TEST_F(GenerationTest, HandshakerThatFloodsHoldsUpNobody) {
  Start("ready-handshaker-floods", /*handshakers=*/1);
  int before = 0;
  int most_at_once = 0;
  EXPECT_TRUE(RunUntil(io_, [&] {
    most_at_once = std::max(most_at_once, changes_ - before);
    before = changes_;
    return generation_->counters().accepted == 6'000;
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
  EXPECT_TRUE(BlameConfig(*generation_->failed(), *setup_, diagnostics));
  EXPECT_EQ(diagnostics.errors(),
            std::vector<std::string>{"f:4:7: certificate \"bad-key\": does not match; the private "
                                     "key that belongs to 'chain' is needed"});
}

// There are more messages than its channel holds: the process has ended before it got all of them.
TEST_F(GenerationTest, FailureOfOneThatHasNotBeenToldEverything) {
  Start("bad-key-early", 1, 2000);
  ASSERT_TRUE(BecomesBroken());
  ASSERT_TRUE(generation_->failed().has_value());
  EXPECT_EQ(generation_->failed()->text, "does not match");
}

TEST_F(GenerationTest, FailureOfACertificateThatDoesNotExistHasNoPlace) {
  Start("bad-id");
  ASSERT_TRUE(BecomesBroken());
  Diagnostics diagnostics("f");
  EXPECT_FALSE(BlameConfig(*generation_->failed(), *setup_, diagnostics));
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
                         ::testing::Values("counters-before-ready", "garbage", "garbage-length",
                                           "exits", "ready-then-descriptor", "ready-twice",
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

// Looks at the generation as the supervisor does, twice a second.
bool BecomesBrokenUnderLooks(asio::io_context& io, Generation& generation,
                             milliseconds limit = milliseconds(60'000)) {
  return RunUntil(
      io,
      [&generation, next = Clock::now()]() mutable {
        if (Clock::now() >= next) {
          generation.Look(Clock::now());
          next += RoleProcess::kLookPeriod;
        }
        return generation.broken();
      },
      limit);
}

TEST_F(GenerationTest, WhoTurnsIsLeftAlone) {
  Start("ready-only");
  ASSERT_TRUE(BecomesReady());
  EXPECT_FALSE(BecomesBrokenUnderLooks(io_, *generation_, milliseconds(3'000)));
}

TEST_F(GenerationTest, WhoIsSilentIsKilled) {
  Start("ready-then-silent", 0);
  ASSERT_TRUE(BecomesReady());
  EXPECT_TRUE(BecomesBrokenUnderLooks(io_, *generation_));
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
}

// Each handshaker asks for a successor at once, and stays.
TEST_F(GenerationTest, WhoAsksForASuccessorDoesNotStayWithoutEnd) {
  Start("ready-then-failed", 1);
  ASSERT_TRUE(BecomesReady());
  size_t started = 1;
  size_t most = 0;
  EXPECT_TRUE(RunUntil(
      io_,
      [&] {
        generation_->Look(Clock::now());
        most = std::max(most, generation_->processes().size());
        if (generation_->TakeLoss() && generation_->AddHandshaker().ok()) ++started;
        return started >= 3 * Generation::kMaxLeaving;
      },
      milliseconds(60'000)));
  // The keyholder, the handshakers that leave, and the newest ones.
  EXPECT_LE(most, Generation::kMaxLeaving + 4);
  EXPECT_FALSE(generation_->broken());
}

// A message that cannot be sent to the dead keyholder must not count as an order to end.
TEST_F(GenerationTest, AKeyholderThatDiesWhileAHandshakerIsAddedIsMissed) {
  Start("ready-only", 1);
  ASSERT_TRUE(BecomesReady());
  const pid_t keyholder = generation_->processes()[0]->pid();
  kill(keyholder, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(keyholder), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(generation_->AddHandshaker().ok());
  EXPECT_TRUE(RunUntil(
      io_, [this] { return generation_->broken(); }, milliseconds(3'000)));
}

TEST_F(GenerationTest, WhoSpinsIsKilled) {
  Start("ready-then-spins", 0);
  ASSERT_TRUE(BecomesReady());
  EXPECT_TRUE(BecomesBrokenUnderLooks(io_, *generation_));
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
}

TEST_F(GenerationTest, WhoIsStoppedIsKilled) {
  Start("ready-only", 0);
  ASSERT_TRUE(BecomesReady());
  kill(generation_->processes()[0]->pid(), SIGSTOP);
  EXPECT_TRUE(BecomesBrokenUnderLooks(io_, *generation_));
  EXPECT_TRUE(RunUntil(io_, [this] { return generation_->gone(); }));
}

TEST(ProcessStateTest, IsReadFromTheFile) {
  EXPECT_EQ(ParseState("77 (a) b) D 1 77 77 0 -1 4194560 173 0 0 0 150 50"), 'D');
  for (const char* text : {"", "77", "77 (a", "77 (a)", "77 (a) D", "77 (a) DD 1", "77 (a)D 1"})
    EXPECT_EQ(ParseState(text), ProcessState::kUnknown) << text;
  EXPECT_EQ(ReadProcessState(getpid())->state, 'R');
}

TEST(ProcessStateTest, HasTheTimeOnTheProcessor) {
  const auto before = ReadProcessState(getpid());
  timespec used{};
  do {
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  } while (std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec) <
           before->cpu_time + milliseconds(5));
  EXPECT_GE(ReadProcessState(getpid())->cpu_time, before->cpu_time + milliseconds(5));
  EXPECT_EQ(ReadProcessState(0x7ffffff), std::nullopt);
}

// What the kernel says of a silent process, and whether that means that it hangs.
TEST(PulseTest, TellsHangingFromWaitingForAProcessor) {
  const struct {
    char state;
    milliseconds used;
    milliseconds silence;
    bool hangs;
  } cases[] = {
      {'S', milliseconds(0), Pulse::kSilence, true},
      {'S', milliseconds(50), Pulse::kSilence, false},  // an overloaded machine
      {'S', milliseconds(50), Pulse::kSlow, true},
      {'S', Pulse::kSpinning, Pulse::kSilence, true},
      {'D', milliseconds(0), Pulse::kSilence, true},
      {'T', milliseconds(0), Pulse::kSilence, true},
      {'Z', milliseconds(0), Pulse::kSilence, true},
      {'t', milliseconds(0), std::chrono::hours(1), false},
      {'R', milliseconds(0), std::chrono::hours(1), false},
      {'R', Pulse::kSpinning, Pulse::kSilence, true},
      // /proc hides the process.
      {'?', milliseconds(0), Pulse::kSilence, true},
      {'?', milliseconds(50), Pulse::kSilence, false},
      {'?', milliseconds(50), Pulse::kSlow, true},
      {'?', Pulse::kSpinning, Pulse::kSilence, true},
  };
  for (const auto& c : cases) {
    const ProcessState suspect{c.state, milliseconds(1000)};
    const ProcessState state{c.state, milliseconds(1000) + c.used};
    EXPECT_EQ(Pulse::HangsBy(suspect, state, c.silence), c.hangs)
        << c.state << " " << c.used.count() << " ms in " << c.silence.count();
  }
}

TEST_F(GenerationTest, ProgramThatIsMissingIsAnError) {
  Start("ready-only", 0);
  const Programs missing{"/nonexistent/keyholder", "/nonexistent/h", "", ""};
  const auto broken = std::make_shared<Generation>(io_.get_executor(), 2, setup_, ticket_keys_,
                                                   missing, nullptr, [] {});
  ASSERT_TRUE(broken->Start(0).ok());
  EXPECT_TRUE(RunUntil(io_, [&] { return broken->broken(); }));
  EXPECT_EQ(broken->start_error().message(),
            "executing /nonexistent/keyholder: No such file or directory");
}

TEST(TicketKeyRingTest, NewKeysComeFirstAndThreeAreKept) {
  TicketKeyRing ring;
  std::vector<std::vector<supervision::TicketKey>> seen;
  for (size_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(ring.Rotate().ok());
    const TicketKeysMessage message = ring.Message();
    seen.push_back(message.message().keys);
    EXPECT_EQ(seen.back().size(), std::min<size_t>(i, 3));
  }
  EXPECT_EQ(seen[4][1].cipher, seen[3][0].cipher);
  EXPECT_EQ(seen[4][2].mac, seen[2][0].mac);
  EXPECT_NE(seen[4][0].name, seen[4][1].name);
}

TEST(TicketKeyRingTest, AForkedProcessHasNoKeys) {
  TicketKeyRing ring;
  ASSERT_TRUE(ring.Rotate().ok());
  const pid_t child = fork();
  if (child == 0) {
    const TicketKeysMessage message = ring.Message();
    const auto& keys = (message.message());
    _exit(keys.keys.empty() && keys.sealing == std::array<uint8_t, 32>{} ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tlsbroker::supervisor
