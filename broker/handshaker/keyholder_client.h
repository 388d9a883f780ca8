// SPDX-License-Identifier: Apache-2.0
// The handshaker's end of the signing channel: one request, one answer, in order. Runs in the
// handshaker, in its only thread. The keyholder is trusted with the keys; what it answers is still
// checked against the protocol.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_
#define TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/pipe.h"
#include "protocol/signing.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

class KeyholderClient {
 public:
  // A signature takes about a millisecond; a keyholder that needs this long is as good as gone. If
  // the keyholder hangs, the supervisor notices that earlier and ends it, which ends the waiting.
  static constexpr std::chrono::milliseconds kTimeout{5000};

  // Ends of pipes, both non-blocking. `waits` is called now and then while there is no answer: the
  // event loop does not turn meanwhile, which is not this process' fault.
  KeyholderClient(
      UniqueFd requests, UniqueFd answers, std::function<void()> waits = [] {})
      : requests_(std::move(requests)), answers_(std::move(answers)), waits_(std::move(waits)) {}

  // Asks for a signature of all of `content` and waits for it, at most kTimeout. Refusals are
  // PermissionDenied (ResourceExhausted for the rate) and leave the channel usable. Any other error
  // breaks it for good: an answer that comes late must never be taken for the next one.
  absl::StatusOr<std::vector<uint8_t>> Sign(uint16_t certificate_id, uint16_t scheme,
                                            std::span<const uint8_t> content);

  // How often Sign() has failed.
  uint64_t failures() const { return failures_; }
  // True once the channel is of no more use; this handshaker can do no more full handshakes.
  bool broken() const { return !requests_.valid(); }
  // The writing end: POLLERR on it tells that the keyholder has ended, and answers do not make it
  // ready. -1 when broken.
  int fd() const { return requests_.get(); }

 private:
  absl::StatusOr<std::vector<uint8_t>> Ask(uint16_t certificate_id, uint16_t scheme,
                                           std::span<const uint8_t> content);
  absl::Status Wait(int pipe, short events, std::chrono::steady_clock::time_point deadline);
  absl::Status Exchange(std::span<const uint8_t> request);
  absl::Status Break(absl::Status why);

  UniqueFd requests_;
  UniqueFd answers_;
  std::function<void()> waits_;
  uint32_t last_request_id_ = 0;
  uint64_t failures_ = 0;
  pipes::Reader reader_{signing::kMaxReply};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_
