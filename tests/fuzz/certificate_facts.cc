// SPDX-License-Identifier: Apache-2.0
// What a keyholder says about a certificate, as the supervisor decodes it.

#include "protocol/certificate_facts.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const auto facts = supervision::DecodeFacts({data, size});
  if (!facts) return kRefused;
  const auto again = supervision::EncodeFacts(*facts);
  FUZZ_ASSERT(std::ranges::equal(again, wire::Bytes(data, size)));
  return 0;
}
