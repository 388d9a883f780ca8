// What handshakers read from workers, and workers from handshakers.

#include "protocol/request.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const wire::Bytes bytes(data, size);
  if (const auto rekey = request::DecodeRekey(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*rekey), bytes));
  }
  if (const auto answer = request::DecodeAnswer(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*answer), bytes));
  }
  if (const auto wrap = request::DecodeWrap(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*wrap), bytes));
  }
  if (const auto dial = request::DecodeDial(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*dial), bytes));
  }
  if (const auto opened = request::DecodeOpened(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(request::Encode(*opened), bytes));
  }
  return 0;
}
