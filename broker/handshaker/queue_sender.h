// SPDX-License-Identifier: Apache-2.0
// The sending end of a service's queue: hands connections off, and tells the acceptors when nobody
// takes them. Runs in the handshaker; nothing is ever read from the queue here.

#ifndef TLSBROKER_BROKER_HANDSHAKER_QUEUE_SENDER_H_
#define TLSBROKER_BROKER_HANDSHAKER_QUEUE_SENDER_H_

#include <asio/steady_timer.hpp>
#include <cstdint>

#include "broker/handshaker/async_fd.h"
#include "protocol/counters.h"
#include "protocol/handoff.h"

namespace tlsbroker {

// Who gets a connection: the workers at a service's queue, or the worker that has asked for it.
class Recipient {
 public:
  virtual ~Recipient() = default;
  // Sends the description with the descriptor, and closes our copy of it. False if nobody is there,
  // or the description cannot be encoded.
  virtual asio::awaitable<bool> HandOff(const handoff::Description& description, UniqueFd fd) = 0;
};

class QueueSender : public Recipient {
 public:
  QueueSender(const asio::any_io_executor& executor, UniqueFd socket,
              supervision::Counters& counters);

  // Waits while the queue is full. False if it is closed.
  asio::awaitable<bool> HandOff(const handoff::Description& description, UniqueFd fd) override;

  // Returns when no hand-off of this process waits for room. Acceptors call it before accept(2), so
  // that a full queue fills the TCP backlog.
  asio::awaitable<void> WaitForRoom();

 private:
  AsyncFd socket_;
  supervision::Counters& counters_;
  uint32_t waiting_ = 0;
  asio::steady_timer room_;  // never expires; cancelled when waiting_ becomes 0
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_QUEUE_SENDER_H_
