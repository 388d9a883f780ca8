// SPDX-License-Identifier: Apache-2.0
// The supervisor's end of the control socket to one of its processes (protocol/message.h).
// Messages and descriptors go down; the end is shut for reading, so nothing comes up.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <optional>

#include "broker/supervisor/event_loop.h"
#include "protocol/message.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class ControlChannel {
 public:
  explicit ControlChannel(const asio::any_io_executor& executor) : executor_(executor) {}
  void Use(UniqueFd socket);

  // The message's descriptors have to live until it was sent. Waits for room; false when the child
  // is gone or Close() was called.
  asio::awaitable<bool> Send(supervision::Encoded message);
  // False when there is no room, too.
  bool SendNow(const supervision::Encoded& message);

  // The child sees the end of file, which tells it to end.
  void Close();

 private:
  asio::any_io_executor executor_;
  UniqueFd socket_;
  std::optional<Watch> watch_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_
