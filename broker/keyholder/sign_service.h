// SPDX-License-Identifier: Apache-2.0
// Answers the signing requests of the handshakers, each of which an attacker may have taken over. A
// channel gets signatures with the certificates of its own service only, of the contents of TLS
// handshakes that this service may have, and at most so many a second. Each turn answers one
// request of each channel, and waits for no handshaker. Runs in the keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_
#define TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_

#include <poll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/keyholder/private_key.h"
#include "broker/support/rate_limit.h"
#include "protocol/modes.h"
#include "protocol/pipe.h"
#include "protocol/signing.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

class SignService {
 public:
  // False if the id is taken.
  [[nodiscard]] bool AddKey(uint16_t certificate_id, PrivateKey key);
  // The signatures that a channel may ask for: as a server with the certificates of `server`, in
  // the versions of TLS that the policy offers; as a client with those of `client`.
  struct Permission {
    std::vector<uint16_t> server;
    std::vector<uint16_t> client;
    supervision::Policy policy = supervision::Policy::kModern;

    bool Allows(uint16_t certificate_id) const;
    bool Allows(uint16_t certificate_id, signing::Shape shape) const;
  };
  // Ends of pipes, both non-blocking.
  struct Ends {
    UniqueFd requests;
    UniqueFd answers;
  };
  // False if a certificate has no key here. `index` names the handshaker in log lines.
  [[nodiscard]] bool AddChannel(uint16_t index, Permission permission, Ends ends, RateLimit rate);

  // Serves all channels. `on_control` is called when there is something on `control`, and returns
  // whether to go on; `beat` is called every kHeartbeatPeriod.
  absl::Status Run(int control, const std::function<absl::StatusOr<bool>()>& on_control,
                   const std::function<void()>& beat);
  // One turn of Run: waits until there is something to do, or a heartbeat is due, and answers at
  // most one request of each channel. False when there is something on `control`.
  absl::StatusOr<bool> Round(int control);

  // Counts of one channel, for the log; cumulative.
  struct Counters {
    uint64_t signatures = 0;
    std::array<uint64_t, 6> refused{};  // by signing::Reason
    uint64_t malformed = 0;
  };
  // `index` is that of the handshaker. For the tests.
  const Counters& counters(uint16_t index) const;

 private:
  struct Channel {
    uint16_t index;
    Permission permission;
    Ends ends;
    RateLimit rate;
    pipes::Reader reader{signing::kMaxMessage};  // its buffer stays as large as the longest message
    Counters counters = {};
  };

  void BeatWhenDue();
  // Answers at most one request. Closes the channel at its end and on anything that breaks the
  // protocol.
  void Serve(Channel& channel);
  signing::Reply Answer(Channel& channel, const signing::Sign& request);
  signing::Reply Refuse(Channel& channel, const signing::Sign& request, signing::Reason reason);
  static void Close(Channel& channel);
  static void CloseBroken(Channel& channel, const char* why);
  void LogCounters() const;

  std::map<uint16_t, PrivateKey> keys_;
  std::vector<Channel> channels_;
  std::vector<pollfd> polled_;  // reused
  std::function<void()> beat_;
  RateLimit::Clock::time_point next_beat_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SIGN_SERVICE_H_
