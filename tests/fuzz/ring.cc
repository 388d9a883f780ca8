// SPDX-License-Identifier: Apache-2.0
// The memory in which a process reports to the supervisor, filled with whatever a process that was
// taken over can put there: no message is longer than the longest allowed, and together they are no
// more than the memory. The first four bytes of an input say how much was written (in this
// machine's byte order), the rest is the memory from its beginning.

#include "protocol/ring.h"

#include <algorithm>
#include <cstring>

#include "tests/fuzz/fuzz.h"

namespace {

namespace ring = tlsbroker::ring;

const ring::Ring& TheRing() {
  static const ring::Ring ring = ring::Make();
  return ring;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t written;
  if (size < sizeof(written)) return kRefused;
  std::memcpy(&written, data, sizeof(written));
  const std::span<const uint8_t> bytes(data + sizeof(written), size - sizeof(written));
  ring::Mapping memory(TheRing().memory.get());
  std::ranges::fill(memory->bytes, 0);
  std::ranges::copy(bytes.first(std::min<size_t>(bytes.size(), ring::kSize)), memory->bytes);
  memory->read = 0;
  ring::Reader reader{ring::Mapping(TheRing().memory.get())};
  memory->written = written;
  size_t taken = 0;
  ring::Result result;
  while ((result = reader.Next()) == ring::Result::kOk) {
    FUZZ_ASSERT(!reader.message().empty() && reader.message().size() <= ring::kMaxMessage);
    taken += sizeof(uint32_t) + reader.message().size();
    FUZZ_ASSERT(taken <= ring::kSize && taken == memory->read);
  }
  FUZZ_ASSERT(result == ring::Result::kMalformed || taken == written);
  return result == ring::Result::kMalformed ? kRefused : 0;
}
