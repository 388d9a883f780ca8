// SPDX-License-Identifier: Apache-2.0
// `status` in the runtime directory: whoever may connect gets the broker's state as one JSON
// object, with a pidfd of the supervisor, and then the end of the stream. Runs in a porter; the
// text is made by the supervisor, which is asked for it each time.

#ifndef TLSBROKER_BROKER_PORTER_STATUS_POINT_H_
#define TLSBROKER_BROKER_PORTER_STATUS_POINT_H_

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "broker/porter/visitors.h"
#include "protocol/message.h"
#include "protocol/porter_messages.h"

namespace tlsbroker::porter {

class StatusPoint : public Visitors {
 public:
  // How long each client has, from connect to the last byte: clients are served one after the
  // other, and one that does not read must not keep others waiting for long.
  static constexpr std::chrono::milliseconds kLimit{2'000};

  explicit StatusPoint(supervision::StatusPoint start) : supervisor_(std::move(start.supervisor)) {}

  int socket_type() const override { return SOCK_STREAM; }
  bool room() const override { return !client_; }
  absl::Status Welcome(UniqueFd socket) override;
  void AddPolled(std::vector<pollfd>& polled) const override;
  Clock::time_point deadline() const override;
  absl::Status Serve(std::span<const pollfd> polled, Clock::time_point now) override;
  // Takes the text from the supervisor.
  absl::Status Handle(supervision::Message message) override;

 private:
  void Write();
  void Dismiss();

  const UniqueFd supervisor_;
  UniqueFd client_;
  Clock::time_point deadline_;
  uint32_t request_ = 0;
  std::optional<std::string> text_;  // nullopt until it has come
  size_t sent_ = 0;
};

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_STATUS_POINT_H_
