// SPDX-License-Identifier: Apache-2.0
// tlsbroker_accept(): a packet of the queue goes through the whole library, with 0 to 2
// descriptors. No descriptor is left open.

#include <fcntl.h>
#include <sys/socket.h>

#include <array>

#include "protocol/channel.h"
#include "tests/fuzz/fuzz.h"
#include "tlsbroker/tlsbroker.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  if (size == 0 || size > 20'000) return kRefused;
  bool taken = false;
  const UniqueFd lowest(open("/dev/null", O_RDONLY | O_CLOEXEC));
  {
    auto [broker, worker] = channel::MakePair();
    const std::array<int, 2> fds = {lowest.get(), lowest.get()};
    (void)channel::Send(broker.get(), {data + 1, size - 1}, std::span(fds).first(data[0] % 3),
                        /*dont_wait=*/true);
    tlsbroker_queue* queue = nullptr;
    FUZZ_ASSERT(tlsbroker_queue_from_fd(worker.Release(), &queue) == 0);
    tlsbroker_conn* conn = nullptr;
    taken = tlsbroker_accept(queue, TLSBROKER_DONTWAIT, &conn) == 0;
    if (taken) {
      FUZZ_ASSERT(tlsbroker_conn_service(conn) != nullptr);
      FUZZ_ASSERT(tlsbroker_conn_peer_text(conn) != nullptr);
      tlsbroker_abort(conn);
    }
    tlsbroker_queue_free(queue);
  }
  const UniqueFd next(open("/dev/null", O_RDONLY | O_CLOEXEC));
  FUZZ_ASSERT(next.get() == lowest.get() + 1);
  return taken ? 0 : kRefused;
}
