// SPDX-License-Identifier: Apache-2.0
// The message to a worker that attaches itself.

#include "protocol/attach.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const auto answer = attach::Decode({data, size});
  if (!answer) return kRefused;
  const auto again = attach::Encode(*answer);
  FUZZ_ASSERT(size == again.size() && std::equal(data, data + 10, again.begin()));
  return 0;
}
