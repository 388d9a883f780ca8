// SPDX-License-Identifier: Apache-2.0
// Waiting for descriptors, also for those that the kernel does not watch.

#include <gtest/gtest.h>
#include <unistd.h>

#include <asio/co_spawn.hpp>
#include <memory>
#include <optional>

#include "broker/supervisor/event_loop.h"
#include "broker/support/coroutines.h"
#include "protocol/pipe.h"
#include "tests/unit/loop.h"

namespace tlsbroker::supervisor {
namespace {

using testlib::RunUntil;

class WatchTest : public testing::TestWithParam<bool> {
 protected:
  // epoll(7) takes a descriptor only once, so the second of two Watches on it is not watched.
  WatchTest() {
    if (GetParam()) first_ = std::make_unique<Watch>(io_.get_executor(), pipe_.reading.get());
    watch_ = std::make_unique<Watch>(io_.get_executor(), pipe_.reading.get());
  }

  void Begin() {
    asio::co_spawn(
        io_,
        [](Watch& watch, std::optional<bool>& result) -> asio::awaitable<void> {
          const bool readable = co_await watch.Readable();
          result = readable;
        }(*watch_, result_),
        EndsProcess());
  }
  bool Ended() {
    return RunUntil(io_, [this] { return result_.has_value(); });
  }

  asio::io_context io_;
  pipes::Pipe pipe_ = pipes::Make();
  std::unique_ptr<Watch> first_;
  std::unique_ptr<Watch> watch_;
  std::optional<bool> result_;
};
INSTANTIATE_TEST_SUITE_P(Watched, WatchTest, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(NotWatched, WatchTest, testing::Values(true));

TEST_P(WatchTest, SeesWhatComes) {
  Begin();
  EXPECT_FALSE(RunUntil(
      io_, [this] { return result_.has_value(); }, std::chrono::milliseconds(200)));
  ASSERT_EQ(write(pipe_.writing.get(), "x", 1), 1);
  ASSERT_TRUE(Ended());
  EXPECT_TRUE(*result_);
}

TEST_P(WatchTest, SeesTheEnd) {
  Begin();
  pipe_.writing.Reset();
  ASSERT_TRUE(Ended());
  EXPECT_TRUE(*result_);
}

TEST_P(WatchTest, IsCancelled) {
  Begin();
  io_.poll();
  watch_->Cancel();
  ASSERT_TRUE(Ended());
  EXPECT_FALSE(*result_);
  result_.reset();
  Begin();  // a cancelled Watch stays so
  ASSERT_TRUE(Ended());
  EXPECT_FALSE(*result_);
}

TEST_P(WatchTest, EndsWhileSomebodyWaits) {
  Begin();
  io_.poll();
  watch_.reset();
  ASSERT_TRUE(Ended());
  EXPECT_FALSE(*result_);
}

TEST(CoroutineDeathTest, ThatThrowsEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        asio::io_context io;
        asio::co_spawn(
            io,
            []() -> asio::awaitable<void> {
              co_await asio::this_coro::executor;
              throw std::runtime_error("out of something");
            },
            EndsProcess());
        io.run();
      },
      "out of something");
}

}  // namespace
}  // namespace tlsbroker::supervisor
