// SPDX-License-Identifier: Apache-2.0
// What a porter does with those who connect: one kind gives them a service's queue
// (attach_point.h), the other tells them the broker's state (status_point.h). Runs in the porter.
// Neither kind reads a byte that they send.

#ifndef TLSBROKER_BROKER_PORTER_VISITORS_H_
#define TLSBROKER_BROKER_PORTER_VISITORS_H_

#include <poll.h>

#include <chrono>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "protocol/message.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::porter {

using Clock = std::chrono::steady_clock;

// An error of any of these ends the porter.
class Visitors {
 public:
  Visitors() = default;
  Visitors(const Visitors&) = delete;
  Visitors& operator=(const Visitors&) = delete;
  virtual ~Visitors() = default;

  // SOCK_SEQPACKET or SOCK_STREAM.
  virtual int socket_type() const = 0;
  // Whether the next connection may come in now.
  virtual bool room() const = 0;
  // Takes a connection, which is non-blocking.
  virtual absl::Status Welcome(UniqueFd socket) = 0;

  // What to wait for, besides the next connection, and until when.
  virtual void AddPolled(std::vector<pollfd>& polled) const = 0;
  virtual Clock::time_point deadline() const { return Clock::time_point::max(); }
  // Called after each wait, with what AddPolled() added.
  virtual absl::Status Serve(std::span<const pollfd> polled, Clock::time_point now) = 0;

  // Takes a message from the supervisor.
  virtual absl::Status Handle(supervision::Message message) = 0;
};

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_VISITORS_H_
