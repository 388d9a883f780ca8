// SPDX-License-Identifier: Apache-2.0
// The structs behind the opaque handles of tlsbroker.h. Part of libtlsbroker, so it runs in
// workers; the bytes in a description come from the broker, but its texts are the peer's.

#ifndef TLSBROKER_CLIENT_LIB_CONNECTION_H_
#define TLSBROKER_CLIENT_LIB_CONNECTION_H_

#include <netinet/in.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "client-lib/attachment.h"
#include "client-lib/record_io.h"
#include "client-lib/rekey.h"
#include "protocol/handoff.h"
#include "protocol/unique_fd.h"

struct tlsbroker_queue {
  tlsbroker::UniqueFd fd;
  std::shared_ptr<tlsbroker::UniqueFd> requests;  // to the broker; null if there is none
  std::unique_ptr<tlsbroker::client::Attachment> attachment;  // null if the broker started us
};

struct tlsbroker_conn {
  tlsbroker_conn(tlsbroker::UniqueFd descriptor, tlsbroker::handoff::Description received,
                 std::shared_ptr<tlsbroker::UniqueFd> requests);

  bool direct() const { return description.mode == tlsbroker::handoff::Mode::kDirect; }
  bool cut() const { return read_result < 0; }

  // Reading has not ended; the results that end it are never positive.
  static constexpr int kStillReading = 1;

  const tlsbroker::UniqueFd fd;
  const tlsbroker::handoff::Description description;
  const std::string peer_text;
  const std::string local_text;
  sockaddr_storage peer{};
  sockaddr_storage local{};

  // One thread may read while another one writes: what both look at is atomic.
  std::atomic<int> read_result = kStillReading;  // what every further read returns
  std::atomic<bool> write_ended = false;
  std::atomic<bool> write_failed = false;   // TCP takes no more
  tlsbroker::client::RecordReader records;  // of the reading thread
  tlsbroker::client::Rekeyer rekeyer;
  // Held by the thread that writes, or changes the keys of writing. The reading thread never waits
  // for it: the writer may wait for a peer that goes on reading only when we read.
  std::mutex writing;
};

namespace tlsbroker::client {

// Reads once, in any mode, and remembers how reading ended. `flags` is 0 or MSG_DONTWAIT.
ssize_t Read(tlsbroker_conn& conn, void* buffer, size_t size, int flags);

// The socket for requests as it is now: an attached queue may get another one. Null if there is
// none.
std::shared_ptr<UniqueFd> RequestsOf(const tlsbroker_queue& queue);

// Ends the worker's direction, once. -EAGAIN: no room now.
int EndWrite(tlsbroker_conn& conn, bool dont_wait);

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_CONNECTION_H_
