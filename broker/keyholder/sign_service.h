// Answers the signing requests of the handshakers, each of which may have been taken over by the
// Internet: over a channel only the certificates of that channel's services, only contents of a TLS
// handshake, at most so many a second, and one request a channel in turn. Runs in the keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_
#define TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_

#include <poll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/keyholder/private_key.h"
#include "protocol/channel.h"
#include "protocol/signing.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

// Lets `burst` requests through at once and `per_second` in the long run (the generic cell rate
// algorithm: one time stamp, nothing that ticks).
class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;
  RateLimit(uint32_t per_second, uint32_t burst);
  bool Take(Clock::time_point now);

 private:
  Clock::duration interval_;
  Clock::duration tolerance_;
  Clock::time_point next_;  // when the bucket is full again
};

class SignService {
 public:
  // False if the id is taken.
  [[nodiscard]] bool AddKey(uint16_t certificate_id, PrivateKey key);
  // What may be signed over a channel: as a server with these certificates, as a client with those.
  struct Permission {
    std::vector<uint16_t> server;
    std::vector<uint16_t> client;
  };
  // False if a certificate has no key here. `index` names the handshaker in log lines.
  [[nodiscard]] bool AddChannel(uint16_t index, Permission permission, UniqueFd channel,
                                RateLimit rate);

  // Serves all channels until the end of file on `control`, which is the only regular end.
  absl::Status Run(int control);
  // One turn of Run: waits until there is something to do, and answers at most one request of each
  // channel. False when there is something on `control`.
  absl::StatusOr<bool> Round(int control);

  // What one channel got, for the log; cumulative.
  struct Counters {
    uint64_t signatures = 0;
    std::array<uint64_t, 6> refused{};  // by signing::Reason
    uint64_t malformed = 0;
  };
  // By the index of the handshaker, for the tests.
  const Counters& counters(uint16_t index) const;

 private:
  struct Channel {
    uint16_t index;
    Permission permission;
    UniqueFd fd;
    RateLimit rate;
    Counters counters;
  };

  // At most one request. Closes the channel at its end and on anything that breaks the protocol.
  void Serve(Channel& channel);
  signing::Reply Answer(Channel& channel, const signing::Sign& request);
  signing::Reply Refuse(Channel& channel, const signing::Sign& request, signing::Reason reason);
  void CloseBroken(Channel& channel, const char* why);
  void LogCounters() const;

  std::map<uint16_t, PrivateKey> keys_;
  std::vector<Channel> channels_;
  // Reused: what a peer sends never makes this process larger.
  std::vector<pollfd> polled_;
  channel::Message message_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_
