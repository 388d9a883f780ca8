// SPDX-License-Identifier: Apache-2.0
// The control channel. The first byte says how many descriptors come with the message; none is left
// open.

#include "protocol/supervision.h"

#include <fcntl.h>

#include <algorithm>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  if (size == 0) return kRefused;
  bool taken = false;
  const UniqueFd lowest(open("/dev/null", O_RDONLY | O_CLOEXEC));
  {
    std::vector<UniqueFd> fds;
    for (int i = data[0] % 4; i > 0; --i) fds.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto message = supervision::Decode({data + 1, size - 1}, std::move(fds));
    taken = message.has_value();
    if (message) {
      const supervision::Encoded again = supervision::Encode(*message);
      std::vector<UniqueFd> copies;
      for (const int fd : again.fds) copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
      FUZZ_ASSERT(!again.bytes.empty());
      const auto decoded = supervision::Decode(again.bytes, std::move(copies));
      FUZZ_ASSERT(decoded && supervision::Encode(*decoded).bytes == again.bytes);
    }
  }
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  FUZZ_ASSERT(next.get() == lowest.get() + 1);
  return taken ? 0 : kRefused;
}
