// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. Each is a file with LLVMFuzzerTestOneInput, built by clang with
// libFuzzer (tests/fuzz/fuzz) and, with replay_main.cc, as an ordinary test that runs its corpus.

#ifndef TLSBROKER_TESTS_FUZZ_FUZZ_H_
#define TLSBROKER_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

// Returns 0 for input that the decoder took, kRefused for input that it did not take; libFuzzer
// wants 0 for both.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
#ifdef TLSBROKER_REPLAY
inline constexpr int kRefused = 1;
#else
inline constexpr int kRefused = 0;
#endif

// A property that does not hold is a finding, as a crash is.
#define FUZZ_ASSERT(condition)                                                           \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

#endif  // TLSBROKER_TESTS_FUZZ_FUZZ_H_
