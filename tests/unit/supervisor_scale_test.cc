// SPDX-License-Identifier: Apache-2.0
// How many handshakers a service gets, depending on what they report.

#include <gtest/gtest.h>

#include "broker/supervisor/scale.h"

namespace tlsbroker::supervisor {
namespace {

using Beats = std::vector<supervision::Heartbeat>;

Beats All(size_t count, uint32_t lag_ms, uint32_t busy_permille) {
  return Beats(count, {lag_ms, busy_permille});
}

TEST(ScaleTest, OneAtRest) {
  Scale scale;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(scale.Next(All(1, 0, 10), 1, 4), 1u);
}

TEST(ScaleTest, OneMoreWhenAllHaveBeenBusyForTwoLooks) {
  Scale scale;
  EXPECT_EQ(scale.Next(All(1, 0, 900), 1, 4), 1u);
  EXPECT_EQ(scale.Next(All(1, 0, 900), 1, 4), 2u);
  EXPECT_EQ(scale.Next(All(1, 0, 900), 1, 4), 2u) << "until it is there";
  EXPECT_EQ(scale.Next({{0, 900}, {0, 100}}, 1, 4), 2u) << "one has time";
  EXPECT_EQ(scale.Next(All(2, 0, 900), 1, 4), 2u);
  EXPECT_EQ(scale.Next(All(2, 0, 900), 1, 4), 3u);
}

TEST(ScaleTest, ALateTimerIsBusyToo) {
  Scale scale;
  (void)scale.Next(All(1, 50, 100), 1, 4);
  EXPECT_EQ(scale.Next(All(1, 50, 100), 1, 4), 2u);
}

TEST(ScaleTest, OneBusyLookIsNothing) {
  Scale scale;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(scale.Next(All(1, 0, i % 2 ? 900 : 10), 1, 4), 1u);
}

TEST(ScaleTest, NeverAboveTheMaximumNorBelowTheMinimum) {
  Scale scale;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(scale.Next(All(2, 99, 999), 2, 2), 2u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(scale.Next(All(2, 0, 0), 2, 2), 2u);
}

TEST(ScaleTest, OneLessWhenTheOthersCanDoIt) {
  Scale scale;
  uint32_t wanted = 1;
  while (wanted < 3) wanted = scale.Next(All(wanted, 0, 900), 1, 3);
  for (int i = 1; i < Scale::kCalmLooks; ++i) ASSERT_EQ(scale.Next(All(3, 0, 300), 1, 3), 3u);
  EXPECT_EQ(scale.Next(All(3, 0, 300), 1, 3), 2u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(scale.Next(All(2, 0, 300), 1, 3), 2u) << "600 in one";
}

TEST(ScaleTest, FollowsAReload) {
  Scale scale;
  EXPECT_EQ(scale.Next({}, 3, 4), 3u);
  EXPECT_EQ(scale.Next(All(3, 0, 900), 1, 2), 2u);
}

}  // namespace
}  // namespace tlsbroker::supervisor
