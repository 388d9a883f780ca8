// What handshakers and the keyholder say to each other: nothing is understood that Encode could not
// have written, and no content has two shapes.

#include "protocol/signing.h"

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const wire::Bytes bytes(data, size);
  if (const auto request = signing::DecodeSign(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(signing::Encode(*request), bytes));
    if (const auto shape = signing::ShapeOf(request->content)) {
      for (int type = 0; type < 4; ++type) {
        (void)signing::SchemeFits(request->scheme, static_cast<signing::KeyType>(type), *shape);
      }
    }
  }
  if (const auto reply = signing::DecodeReply(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(signing::Encode(*reply), bytes));
  }
  (void)signing::ShapeOf(bytes);
  return 0;
}
