// SPDX-License-Identifier: Apache-2.0
// The porter's event loop: accepts, one connection a turn, listens to the supervisor, and says
// every half second that it turns. Runs in the porter.

#ifndef TLSBROKER_BROKER_PORTER_LOOP_H_
#define TLSBROKER_BROKER_PORTER_LOOP_H_

#include <poll.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/porter/visitors.h"
#include "broker/support/control_end.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::porter {

class Loop {
 public:
  Loop(ControlEnd control, std::unique_ptr<Visitors> visitors)
      : control_(control), visitors_(std::move(visitors)) {}

  // From now on connections come from `door`. Those that wait in the door before it are lost.
  absl::Status Open(supervision::Door door);
  // Runs until the end of file on the control socket, which is the only regular end.
  absl::Status Run();

 private:
  absl::StatusOr<bool> Turn();  // false at the end
  int Timeout(Clock::time_point now) const;
  absl::StatusOr<bool> HearSupervisor();
  absl::Status Accept();
  void Beat();

  ControlEnd control_;
  std::unique_ptr<Visitors> visitors_;
  UniqueFd door_;
  std::vector<pollfd> polled_;
  Clock::time_point pause_until_;  // no free descriptor
  Clock::time_point next_beat_;
};

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_LOOP_H_
