// SPDX-License-Identifier: Apache-2.0
// `status` in the runtime directory: whoever may connect gets the broker's state as one JSON
// object, and then the end of the stream. Runs in the supervisor, which writes the text each time
// that its porter asks for it, and has no connection of those who read it.

#ifndef TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_
#define TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_

#include <asio/any_io_executor.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/porter.h"

namespace tlsbroker::supervisor {

class StatusSocket : public Porter::Purpose {
 public:
  // The pause between two answers, however often the porter asks.
  static constexpr std::chrono::milliseconds kPause{50};

  // Only for the user who started the broker: the report names processes, peers' counts and
  // certificates. `changed` as in Porter.
  StatusSocket(const asio::any_io_executor& executor, const std::string& runtime_dir,
               PorterStart start, std::function<std::string()> report,
               std::function<void()> changed);
  StatusSocket(const StatusSocket&) = delete;
  StatusSocket& operator=(const StatusSocket&) = delete;
  ~StatusSocket() override { porter_->Close(); }

  absl::Status Open() { return porter_->Open(); }

  const std::shared_ptr<Porter>& porter() const { return porter_; }

 private:
  absl::StatusOr<supervision::Message> Duty() override;
  bool Heard(supervision::Message message) override;
  void Ended() override { timer_.cancel(); }
  void Answer(uint32_t request);

  asio::steady_timer timer_;  // of the answer that is due
  Clock::time_point next_answer_;
  const std::function<std::string()> report_;
  const std::shared_ptr<Porter> porter_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_
