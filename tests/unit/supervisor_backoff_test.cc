// SPDX-License-Identifier: Apache-2.0
// How long the supervisor waits before it starts something again.

#include <gtest/gtest.h>

#include "broker/supervisor/backoff.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(BackoffTest, DoublesToTheLongest) {
  Backoff backoff;
  for (const int expected : {100, 200, 400, 800, 1600, 3200, 6400, 10'000, 10'000})
    EXPECT_EQ(backoff.Next(seconds(0)), milliseconds(expected));
}

TEST(BackoffTest, BeginsAnewAfterAStableRun) {
  Backoff backoff;
  for (int i = 0; i < 10; ++i) backoff.Next(seconds(0));
  EXPECT_EQ(backoff.Next(seconds(29)), milliseconds(10'000));
  EXPECT_EQ(backoff.Next(seconds(30)), milliseconds(100));
  EXPECT_EQ(backoff.Next(seconds(0)), milliseconds(200));
}

}  // namespace
}  // namespace tlsbroker::supervisor
