// The handshaker's end of the signing channel: one request, one answer, in order. Runs in the
// handshaker, in its only thread. The keyholder is trusted with the keys; what it answers is still
// checked against the protocol.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_
#define TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/channel.h"
#include "protocol/signing.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

class KeyholderClient {
 public:
  // A signature takes about a millisecond; a keyholder that needs this long is as good as gone.
  static constexpr std::chrono::milliseconds kTimeout{2000};

  explicit KeyholderClient(UniqueFd channel) : channel_(std::move(channel)) {}

  // Asks for a signature of all of `content` and waits for it, at most kTimeout. Refusals are
  // PermissionDenied (ResourceExhausted for the rate) and leave the channel usable. Any other error
  // breaks it for good: an answer that comes late must never be taken for the next one.
  absl::StatusOr<std::vector<uint8_t>> Sign(uint16_t certificate_id, uint16_t scheme,
                                            std::span<const uint8_t> content);

  // True once the channel is of no more use; this handshaker can do no more full handshakes.
  bool broken() const { return !channel_.valid(); }
  // To watch for the end of the keyholder; nothing else may read it. -1 when broken.
  int fd() const { return channel_.get(); }

 private:
  absl::Status Exchange(std::span<const uint8_t> request);
  absl::Status Break(absl::Status why);

  UniqueFd channel_;
  uint32_t last_request_id_ = 0;
  channel::Message message_;  // the last answer; reused
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_CLIENT_H_
