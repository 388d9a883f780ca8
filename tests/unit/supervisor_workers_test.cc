// SPDX-License-Identifier: Apache-2.0
// Workers are started, restarted and ended as configured, and connections wait for them meanwhile.

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "broker/supervisor/workers.h"
#include "protocol/channel.h"
#include "protocol/handoff.h"
#include "tests/unit/loop.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;
using testlib::RunUntil;

class WorkersTest : public ::testing::Test {
 protected:
  WorkersTest() { signal(SIGPIPE, SIG_IGN); }

  ~WorkersTest() override {
    if (!pool_) return;
    pool_->Stop(milliseconds(0));
    pool_->Kill();
    EXPECT_TRUE(RunUntil(io_, [this] { return pool_->gone(); }));
  }

  void Start(std::string what, bool on_demand = false, uint32_t count = 1) {
    WorkerSpec spec;
    spec.service = "test";
    spec.command = {SUPERVISOR_CHILD, std::move(what)};
    if (geteuid() == 0) spec.account = Account{1, 1};
    spec.count = count;
    spec.on_demand = on_demand;
    StartSpec(std::move(spec));
  }

  // Starts a worker from which heartbeats are expected.
  void StartBeating(std::string what) {
    WorkerSpec spec;
    spec.service = "test";
    spec.command = {SUPERVISOR_CHILD, std::move(what)};
    if (geteuid() == 0) spec.account = Account{1, 1};
    spec.beats = true;
    StartSpec(std::move(spec));
  }

  void StartSpec(WorkerSpec spec) {
    auto queue = Queue::Open(16, "test");
    ASSERT_TRUE(queue.ok());
    queue_ = std::make_shared<Queue>(*std::move(queue));
    pool_ = std::make_shared<WorkerPool>(io_.get_executor(), std::move(spec), "f:1:2", queue_,
                                         [this] { ++changes_; });
    pool_->Start();
  }

  // Puts a message into the queue; what a worker writes to the descriptor in it can be read from
  // the result.
  UniqueFd HandOff() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const UniqueFd write_end(ends[1]);
    const std::vector<uint8_t> description(handoff::kPaddedSize);
    const int fd = write_end.get();
    EXPECT_EQ(channel::Send(queue_->sending(), description, {&fd, 1}, true), channel::Result::kOk);
    return UniqueFd(ends[0]);
  }

  // The pid of the worker that took the connection; 0 if none did.
  pid_t Answer(const UniqueFd& connection) {
    std::string text(32, '\0');
    const auto readable = [&connection] {
      pollfd state{connection.get(), POLLIN, 0};
      return poll(&state, 1, 0) == 1;
    };
    if (!RunUntil(io_, readable)) return 0;
    const ssize_t n = read(connection.get(), text.data(), text.size());
    return n > 0 ? std::stoi(text) : 0;
  }

  void RunFor(milliseconds time) {
    RunUntil(
        io_, [] { return false; }, time);
  }

  static bool Runs(pid_t pid) { return kill(pid, 0) == 0; }

  asio::io_context io_{1};
  std::shared_ptr<Queue> queue_;
  std::shared_ptr<WorkerPool> pool_;
  int changes_ = 0;
};

TEST_F(WorkersTest, StartsAsManyAsConfigured) {
  Start("serve-one", /*on_demand=*/false, /*count=*/3);
  const UniqueFd connections[] = {HandOff(), HandOff(), HandOff()};
  std::set<pid_t> pids;
  for (const UniqueFd& connection : connections) pids.insert(Answer(connection));
  EXPECT_FALSE(pids.contains(0));
  EXPECT_EQ(pids.size(), 3u);
}

// The service is removed from the configuration: what waits in its queue is still served.
TEST_F(WorkersTest, OneThatIsBeingStartedServesWhatWaits) {
  Start("serve-one");
  io_.poll_one();  // the start has begun; that it is done would be another event
  ASSERT_TRUE(pool_->running().empty()) << "it is being started";
  pool_->Stop(std::chrono::hours(1));
  EXPECT_NE(Answer(HandOff()), 0);
}

// The zombie of a traced process goes to its tracer first.
TEST_F(WorkersTest, OneThatIsTracedIsReapedAtLast) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may trace it";
  Start("serve");
  ASSERT_TRUE(RunUntil(io_, [this] { return !pool_->running().empty(); }));
  const pid_t pid = pool_->running()[0].pid;
  const pid_t tracer = fork();
  if (tracer == 0) {
    const bool traces = ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0;
    kill(pid, SIGKILL);
    usleep(300'000);
    _exit(traces ? 0 : 1);
  }
  RunFor(milliseconds(1'000));
  int status = -1;
  ASSERT_EQ(waitpid(tracer, &status, 0), tracer);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(RunUntil(io_, [pid] { return !Runs(pid); })) << "a zombie is left";
}

TEST_F(WorkersTest, HeartbeatsHoldNobodyUp) {
  StartBeating("hold-heartbeats");
  ASSERT_TRUE(RunUntil(io_, [this] { return !pool_->running().empty(); }));
  RunFor(milliseconds(300));
  const auto begun = Clock::now();
  for (auto now = begun; now < begun + 10 * Pulse::kLookPeriod; now += Pulse::kLookPeriod)
    pool_->Look(now);
  EXPECT_LT(Clock::now() - begun, milliseconds(1'000));
  EXPECT_EQ(pool_->hung(), 1U) << "it has not sent a second one";
}

// The first page of a program may come from a slow disk.
TEST_F(WorkersTest, OneThatStartsSlowlyDoesNotHang) {
  StartBeating("ignore-term");
  ASSERT_TRUE(RunUntil(io_, [this] { return !pool_->running().empty(); }));
  const auto begun = Clock::now();
  const auto look_until = [&](milliseconds end) {
    for (auto now = begun; now < begun + end; now += Pulse::kLookPeriod) pool_->Look(now);
  };
  look_until(Pulse::kStart - Pulse::kLookPeriod);
  EXPECT_EQ(pool_->hung(), 0U);
  look_until(Pulse::kStart + 2 * Pulse::kLookPeriod);
  EXPECT_EQ(pool_->hung(), 1U) << "it has never sent one";
}

TEST_F(WorkersTest, OneThatIsStoppedWhileItStartsHangs) {
  StartBeating("ignore-term");
  ASSERT_TRUE(RunUntil(io_, [this] { return !pool_->running().empty(); }));
  const pid_t pid = pool_->running()[0].pid;
  kill(pid, SIGSTOP);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT), 0);
  const auto begun = Clock::now();
  for (auto now = begun; now < begun + Pulse::kSilence + 2 * Pulse::kLookPeriod;
       now += Pulse::kLookPeriod)
    pool_->Look(now);
  EXPECT_EQ(pool_->hung(), 1U);
}

TEST_F(WorkersTest, RunsAsTheConfiguredUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Start("serve");
  const pid_t pid = Answer(HandOff());
  ASSERT_GT(pid, 0);
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string text((std::istreambuf_iterator<char>(status)), {});
  EXPECT_NE(text.find("\nUid:\t1\t1\t1\t1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\nNoNewPrivs:\t1\n"), std::string::npos);
  EXPECT_NE(text.find("\nSeccomp:\t2\n"), std::string::npos);
  EXPECT_NE(text.find("\nCapBnd:\t0000000000000000\n"), std::string::npos);
}

TEST_F(WorkersTest, WaitingConnectionsSurviveTheDeathOfTheWorker) {
  Start("serve");
  const pid_t first = Answer(HandOff());
  ASSERT_GT(first, 0);
  kill(first, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(first), &info, WEXITED | WNOWAIT), 0);
  const UniqueFd waiting[] = {HandOff(), HandOff()};
  const pid_t second = Answer(waiting[0]);
  EXPECT_GT(second, 0);
  EXPECT_NE(second, first);
  EXPECT_EQ(Answer(waiting[1]), second);
}

TEST_F(WorkersTest, OnDemandStartsWithTheFirstConnectionAndAgainWithTheNext) {
  Start("serve-one", /*on_demand=*/true);
  RunFor(milliseconds(200));
  EXPECT_EQ(changes_, 0);
  const pid_t first = Answer(HandOff());
  EXPECT_GT(first, 0);
  ASSERT_TRUE(RunUntil(io_, [first] { return !Runs(first); }));
  const pid_t second = Answer(HandOff());
  EXPECT_GT(second, 0);
  EXPECT_NE(second, first);
}

TEST_F(WorkersTest, OnDemandServesAllThatWait) {
  Start("serve-one", /*on_demand=*/true);
  const UniqueFd connections[] = {HandOff(), HandOff(), HandOff()};
  for (const UniqueFd& connection : connections) EXPECT_GT(Answer(connection), 0);
}

// A worker that ends without taking its connection is started again, at a bounded rate.
TEST_F(WorkersTest, OnDemandWorkerThatTakesNothingDoesNotEatTheCpu) {
  WorkerSpec spec;
  spec.service = "test";
  spec.command = {"/bin/true"};
  if (geteuid() == 0) spec.account = Account{1, 1};
  spec.on_demand = true;
  StartSpec(spec);
  const UniqueFd connection = HandOff();
  RunFor(milliseconds(500));
  EXPECT_GT(changes_, 1);
  EXPECT_LT(changes_, 60);
}

// If a worker takes nothing another one is started after a while, but no more than configured.
TEST_F(WorkersTest, OnDemandStartsAnotherOneWhileConnectionsWait) {
  Start("ignore-term", /*on_demand=*/true, /*count=*/3);
  const UniqueFd connection = HandOff();
  ASSERT_TRUE(RunUntil(io_, [this] { return pool_->running().size() == 3; }));
  RunFor(milliseconds(400));
  EXPECT_EQ(pool_->running().size(), 3u);
}

TEST_F(WorkersTest, OnDemandStartsNoOtherOneForWhatIsTaken) {
  Start("serve", /*on_demand=*/true, /*count=*/3);
  for (int i = 0; i < 10; ++i) EXPECT_GT(Answer(HandOff()), 0);
  EXPECT_EQ(pool_->running().size(), 1u);
}

class IdleWorkersTest : public WorkersTest {
 protected:
  void StartIdle(std::string what, uint32_t count = 1) {
    WorkerSpec spec;
    spec.service = "test";
    spec.command = {SUPERVISOR_CHILD, std::move(what)};
    if (geteuid() == 0) spec.account = Account{1, 1};
    spec.count = count;
    spec.on_demand = true;
    spec.idle_timeout = milliseconds(300);
    StartSpec(std::move(spec));
  }
  bool WaitForNone() {
    return RunUntil(io_, [this] { return pool_->running().empty(); });
  }
};

TEST_F(IdleWorkersTest, EndAndAreStartedAgain) {
  StartIdle("serve");
  const pid_t first = Answer(HandOff());
  EXPECT_GT(first, 0);
  EXPECT_TRUE(WaitForNone());
  const pid_t second = Answer(HandOff());
  EXPECT_GT(second, 0);
  EXPECT_NE(second, first);
  EXPECT_TRUE(WaitForNone());
}

TEST_F(IdleWorkersTest, HandOffsKeepThem) {
  StartIdle("serve");
  EXPECT_GT(Answer(HandOff()), 0);
  for (uint64_t count = 1; count < 20; ++count) {
    pool_->NoteHandOffs(count);
    RunFor(milliseconds(50));
  }
  EXPECT_EQ(pool_->running().size(), 1u);
  EXPECT_TRUE(WaitForNone());
}

TEST_F(IdleWorkersTest, FinishWhatTheyHaveBesideAnother) {
  StartIdle("serve-and-drain");
  UniqueFd held = HandOff();
  const pid_t first = Answer(held);
  ASSERT_GT(first, 0);
  const auto draining = [this] {
    const auto running = pool_->running();
    return running.size() == 1 && running[0].draining;
  };
  ASSERT_TRUE(RunUntil(io_, draining));
  UniqueFd other = HandOff();
  const pid_t second = Answer(other);
  EXPECT_GT(second, 0);
  EXPECT_NE(second, first);
  // Only as many workers drain as may run: so the second one stays for what comes.
  RunFor(milliseconds(700));
  EXPECT_EQ(Answer(HandOff()), second);
  EXPECT_TRUE(Runs(first));
  held.Reset();
  other.Reset();
  EXPECT_TRUE(WaitForNone());
}

TEST_F(IdleWorkersTest, StopUrgesThoseThatDrain) {
  StartIdle("ignore-term");
  const UniqueFd connection = HandOff();
  const auto draining = [this] {
    const auto running = pool_->running();
    return !running.empty() && running[0].draining;
  };
  EXPECT_FALSE(RunUntil(io_, draining, milliseconds(600))) << "somebody waits";
  channel::Message taken;
  EXPECT_EQ(channel::Receive(queue_->receiving(), channel::kMaxMessage, 1, taken),
            channel::Result::kOk);
  ASSERT_TRUE(RunUntil(io_, draining));
  pool_->Stop(milliseconds(0));
  EXPECT_TRUE(RunUntil(
      io_, [this] { return pool_->gone(); },
      WorkerPool::kFinishTimeout + WorkerPool::kEndTimeout + milliseconds(5000)));
}

TEST_F(WorkersTest, ProgramThatDoesNotStartIsTriedAgainWithPauses) {
  WorkerSpec spec;
  spec.service = "test";
  spec.command = {"/nonexistent/worker"};
  StartSpec(spec);
  testing::internal::CaptureStderr();
  RunFor(milliseconds(1000));  // attempts at 0, 100, 300 and 700 ms
  const std::string log = testing::internal::GetCapturedStderr();
  size_t attempts = 0;
  for (size_t at = 0; (at = log.find("f:1:2: the worker cannot be started: ", at)) != log.npos;
       ++at)
    ++attempts;
  EXPECT_GE(attempts, 2u) << log;
  EXPECT_LE(attempts, 5u) << log;
}

TEST_F(WorkersTest, QueueThatAWorkerShutDownIsLeftAlone) {
  Start("break-queue", /*on_demand=*/false, /*count=*/2);
  testing::internal::CaptureStderr();
  RunFor(milliseconds(700));
  const std::string log = testing::internal::GetCapturedStderr();
  const std::string said = "a worker has shut the queue of its service down";
  EXPECT_NE(log.find(said), std::string::npos) << log;
  EXPECT_EQ(log.find(said), log.rfind(said)) << log;
  pool_->Stop(milliseconds(0));
  EXPECT_TRUE(pool_->gone()) << "workers were started again";
}

TEST_F(WorkersTest, StopEndsWorkers) {
  Start("serve", /*on_demand=*/false, /*count=*/2);
  ASSERT_GT(Answer(HandOff()), 0);
  pool_->Stop(milliseconds(0));
  EXPECT_TRUE(RunUntil(
      io_, [this] { return pool_->gone(); }, milliseconds(3000)));
}

TEST_F(WorkersTest, StopOfAnIdlePoolOnDemand) {
  Start("serve", /*on_demand=*/true);
  RunFor(milliseconds(50));
  pool_->Stop(milliseconds(0));
  EXPECT_TRUE(RunUntil(
      io_, [this] { return pool_->gone(); }, milliseconds(3000)));
}

// The service is gone: its workers get time to see the end of their queue.
TEST_F(WorkersTest, StopWithDelayLetsWorkersEndByThemselves) {
  Start("serve");
  const pid_t pid = Answer(HandOff());
  pool_->Stop(std::chrono::hours(1));
  RunFor(milliseconds(200));
  EXPECT_TRUE(Runs(pid));
  queue_->CloseSending();
  EXPECT_TRUE(RunUntil(
      io_, [this] { return pool_->gone(); }, milliseconds(3000)));
}

TEST_F(WorkersTest, WorkerThatIgnoresTermIsKilled) {
  Start("ignore-term");
  RunFor(milliseconds(300));
  pool_->Stop(milliseconds(0));
  EXPECT_FALSE(RunUntil(
      io_, [this] { return pool_->gone(); }, milliseconds(1000)));
  EXPECT_TRUE(RunUntil(
      io_, [this] { return pool_->gone(); },
      WorkerPool::kFinishTimeout + WorkerPool::kEndTimeout + milliseconds(3000)));
}

}  // namespace
}  // namespace tlsbroker::supervisor
