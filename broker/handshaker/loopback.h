// SPDX-License-Identifier: Apache-2.0
// TCP connections of a process with itself, for the capability probe: kTLS exists on established
// TCP connections only. Runs in the handshaker at its start. Any local user may connect to the
// listener meanwhile, so only the own connection is taken from it.

#ifndef TLSBROKER_BROKER_HANDSHAKER_LOOPBACK_H_
#define TLSBROKER_BROKER_HANDSHAKER_LOOPBACK_H_

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

using TimePoint = std::chrono::steady_clock::time_point;

struct LoopbackConnection {
  UniqueFd near, far;  // both non-blocking
};

class LoopbackListener {
 public:
  // Listens on 127.0.0.1, or on ::1 where there is no IPv4.
  static absl::StatusOr<LoopbackListener> Create();

  absl::StatusOr<LoopbackConnection> Connect(TimePoint deadline) const;
  int get() const { return listener_.get(); }

 private:
  explicit LoopbackListener(UniqueFd listener) : listener_(std::move(listener)) {}

  UniqueFd listener_;
};

// Both move all bytes or return an error: DeadlineExceeded at `deadline`, OutOfRange at a premature
// end.
absl::Status SendAll(int socket, std::string_view bytes, TimePoint deadline);
absl::StatusOr<std::string> ReceiveExactly(int socket, size_t size, TimePoint deadline);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_LOOPBACK_H_
