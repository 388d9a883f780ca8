// SPDX-License-Identifier: Apache-2.0
// main() of test programs that need what not every kernel has. If all tests were skipped the status
// is 77, which Meson shows as SKIP. Where TLSBROKER_EXPECT is set the kernel is known to have
// everything, so a skip is a failure: a run without failures proves that the feature was exercised.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int status = RUN_ALL_TESTS();
  const auto& all = *testing::UnitTest::GetInstance();
  const char* expected = getenv("TLSBROKER_EXPECT");
  if (all.skipped_test_count() > 0 && expected != nullptr && *expected != '\0') {
    fprintf(stderr, "FAILED: skipped in spite of TLSBROKER_EXPECT=%s\n", expected);
    return 1;
  }
  const bool all_skipped = all.skipped_test_count() > 0 && all.successful_test_count() == 0;
  return status == 0 && all_skipped ? 77 : status;
}
