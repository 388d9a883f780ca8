// SPDX-License-Identifier: Apache-2.0
// The queue's message, as a worker decodes it: what was decoded can be encoded and decoded again,
// and stays the same.

#include "protocol/handoff.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const auto description = handoff::Decode({data, size});
  if (!description) return kRefused;
  const std::vector<uint8_t> again = handoff::Encode(*description);
  if (again.empty()) return 0;  // padding may make a packet of the largest size too large
  const auto decoded = handoff::Decode(again);
  FUZZ_ASSERT(decoded && *decoded == *description);
  return 0;
}
