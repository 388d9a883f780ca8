// SPDX-License-Identifier: Apache-2.0
// The messages that handshakers read from workers, and workers from handshakers.

#include "protocol/request.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const wire::Bytes bytes(data, size);
  bool taken = false;
  const auto check = [&](const auto& message) {
    if (!message) return;
    taken = true;
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*message), bytes));
  };
  check(request::DecodeRekey(bytes));
  check(request::DecodeAnswer(bytes));
  check(request::DecodeWrap(bytes));
  check(request::DecodeDial(bytes));
  check(request::DecodeOpened(bytes));
  return taken ? 0 : kRefused;
}
