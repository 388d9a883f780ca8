// SPDX-License-Identifier: Apache-2.0
// For tests whose code owns descriptors: how many the process has open.

#ifndef TLSBROKER_TESTS_UNIT_FD_LEAKS_H_
#define TLSBROKER_TESTS_UNIT_FD_LEAKS_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <iterator>

namespace tlsbroker {

inline size_t CountOpenFds() {
  std::filesystem::directory_iterator open("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(open), end(open))) - 1;  // the directory itself
}

// Base of test fixtures: a test ends with the descriptors that it began with.
class NoFdLeaks : public ::testing::Test {
 protected:
  ~NoFdLeaks() override { EXPECT_EQ(CountOpenFds(), before_) << "descriptors leaked"; }

 private:
  const size_t before_ = CountOpenFds();
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_FD_LEAKS_H_
