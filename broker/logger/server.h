// SPDX-License-Identifier: Apache-2.0
// The logger's loop: reads all senders in turn, writes what they say, and never waits for one of
// them. Runs in the logger.

#ifndef TLSBROKER_BROKER_LOGGER_SERVER_H_
#define TLSBROKER_BROKER_LOGGER_SERVER_H_

#include <poll.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/logger/output.h"
#include "broker/logger/sender.h"
#include "broker/support/control_end.h"
#include "protocol/logger_messages.h"
#include "protocol/message.h"

namespace tlsbroker::logger {

class Server {
 public:
  // Returns false for a message that the supervisor does not send to a logger.
  [[nodiscard]] bool Handle(supervision::Message message);

  // Runs until the supervisor sends Drain, and then until everything has been written or the time
  // for that has passed. If the supervisor ends without Drain it was killed: then `alone` is
  // called, and this runs as long as somebody can write, since a worker that finishes its
  // connections must not die because of a line of its log. `beat` is called every kHeartbeatPeriod.
  absl::Status Run(ControlEnd& control, const std::function<void()>& beat,
                   const std::function<void()>& alone);

 private:
  // How long to try to write what is left when nothing more can come.
  static constexpr std::chrono::milliseconds kLastWords{1'000};

  absl::Status Turn(ControlEnd& control);
  int Timeout(Clock::time_point now) const;
  absl::Status HandleControl(ControlEnd& control);
  void ReadSenders(Clock::time_point now);
  void Remove(std::map<uint32_t, std::unique_ptr<Sender>>::iterator sender);
  void SayLost(Clock::time_point now);
  bool Over(Clock::time_point now) const;
  std::shared_ptr<Share> ShareOf(const supervision::LogSource& source);

  Output output_;
  std::map<std::string, std::weak_ptr<Share>> shares_;
  std::map<uint32_t, std::unique_ptr<Sender>> senders_;  // by id
  uint64_t lost_of_ended_ = 0;  // lost lines of senders that are gone, not reported yet
  bool supervised_ = true;
  bool quiet_ = false;  // nothing came in the last turn
  std::optional<Clock::time_point> deadline_;
  Clock::time_point next_beat_{};  // long ago, but near enough to be subtracted from
  std::vector<pollfd> polled_;     // control, output, senders in their order
  std::function<void()> beat_;
  std::function<void()> alone_;
};

}  // namespace tlsbroker::logger

#endif  // TLSBROKER_BROKER_LOGGER_SERVER_H_
