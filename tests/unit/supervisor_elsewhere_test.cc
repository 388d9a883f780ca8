// SPDX-License-Identifier: Apache-2.0
// Errands, which the supervisor has done by processes that may hang: how long it waits for one, and
// how many there may be.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "broker/supervisor/elsewhere.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

bool Add(int fd, int argument) {
  const auto value = static_cast<uint64_t>(argument);
  return write(fd, &value, sizeof(value)) == sizeof(value);
}

bool Fail(int /*fd*/, int /*argument*/) { return false; }

// Waits until somebody writes to the eventfd.
bool Hang(int fd, int /*argument*/) {
  uint64_t value = 0;
  return read(fd, &value, sizeof(value)) == sizeof(value);
}

// Each test has a service of its own, so that what one test has used up does not affect another
// one.
class Elsewhere : public testing::Test {
 protected:
  Elsewhere() : event_(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)) {}
  ~Elsewhere() override {
    Add(event_.get(), 1'000'000);  // lets all of them go on
    while (StuckErrands(service_, Clock::now() + std::chrono::hours(1)) != 0) {
      std::this_thread::sleep_for(milliseconds(1));
      ReapErrands();
    }
  }

  UniqueFd event_;
  std::string service_ = testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(Elsewhere, IsDoneWhenItReturns) {
  EXPECT_TRUE(DoElsewhere(event_.get(), Add, 3, service_));
  pollfd state{event_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&state, 1, 0), 1);
  EXPECT_FALSE(DoElsewhere(event_.get(), Fail, 0, service_));
}

TEST_F(Elsewhere, WaitsSoLongAndThenNotAgain) {
  auto begun = Clock::now();
  EXPECT_FALSE(DoElsewhere(event_.get(), Hang, 0, service_));
  EXPECT_GE(Clock::now() - begun, kErrandPatience);
  begun = Clock::now();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(DoElsewhere(event_.get(), Hang, 0, service_));
  EXPECT_LT(Clock::now() - begun, 10 * kErrandPatience);
  EXPECT_EQ(StuckErrands(service_, Clock::now() + std::chrono::seconds(3)), 11U);
  EXPECT_TRUE(DoElsewhere(event_.get(), Add, 0, service_ + "'s neighbour"));
}

TEST_F(Elsewhere, HasSoManyOfOneServiceAndNoMore) {
  for (size_t i = 0; i < kMaxErrands; ++i) (void)DoElsewhere(event_.get(), Hang, 0, service_);
  std::this_thread::sleep_for(milliseconds(2'100));  // by now they should have ended
  EXPECT_EQ(StuckErrands(service_, Clock::now()), kMaxErrands);
  (void)DoElsewhere(event_.get(), Hang, 0, service_);
  EXPECT_EQ(StuckErrands(service_, Clock::now() + std::chrono::seconds(3)), kMaxErrands);
  EXPECT_EQ(StuckErrands("another", Clock::now() + std::chrono::seconds(3)), 0U);
}

TEST_F(Elsewhere, ClosesLast) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  EXPECT_FALSE(DoAndCloseElsewhere(UniqueFd(ends[1]), Fail, 0, service_));
  pollfd state{reading.get(), POLLIN, 0};
  EXPECT_EQ(poll(&state, 1, 10'000), 1);
  EXPECT_NE(state.revents & POLLHUP, 0);
}

TEST_F(Elsewhere, HasNothingElse) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  EXPECT_FALSE(DoElsewhere(event_.get(), Hang, 0, service_));
  writing.Reset();
  pollfd state{reading.get(), POLLIN, 0};
  EXPECT_EQ(poll(&state, 1, 10'000), 1) << "it has let go of the other end";
}

}  // namespace
}  // namespace tlsbroker::supervisor
