// The supervisor's end of the control channel to a keyholder or handshaker
// (protocol/supervision.h). A handshaker may have been taken over by the Internet: what it says is
// decoded strictly, carries no descriptors, and the first message out of the ordinary ends the
// conversation.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <optional>

#include "broker/supervisor/event_loop.h"
#include "protocol/supervision.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class ControlChannel {
 public:
  ControlChannel(const asio::any_io_executor& executor, UniqueFd socket);

  // Waits for room; false when the child is gone or Close() was called.
  asio::awaitable<bool> Send(const supervision::Message& message);
  // False when there is no room, too: a child that does not read its channel is not well.
  bool SendNow(const supervision::Message& message);

  // nullopt at the end of file, after Close(), and at what a child may not say.
  asio::awaitable<std::optional<supervision::Message>> Receive();

  // The child sees the end of file, which tells it to end.
  void Close();

 private:
  UniqueFd socket_;
  Watch watch_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONTROL_H_
