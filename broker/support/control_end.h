// SPDX-License-Identifier: Apache-2.0
// A role's end of its control socket: what the supervisor says, in the order that it may be said.
// The supervisor is trusted; that its messages are well-formed is still checked. Runs in keyholder,
// porter and logger; the handshaker has an event loop (handshaker/control.h).

#ifndef TLSBROKER_BROKER_SUPPORT_CONTROL_END_H_
#define TLSBROKER_BROKER_SUPPORT_CONTROL_END_H_

#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "protocol/conversation.h"

namespace tlsbroker {

class ControlEnd {
 public:
  // Borrows the socket.
  ControlEnd(int socket, std::span<const supervision::Rule> rules)
      : socket_(socket), conversation_(rules) {}

  int socket() const { return socket_; }

  // Waits for the next message. Unavailable: the supervisor is gone. Internal: the supervisor sent
  // a message that it may not send now.
  absl::StatusOr<supervision::Message> Next();
  // Does not wait: nullopt if there is none.
  absl::StatusOr<std::optional<supervision::Message>> NextIfAny();

 private:
  absl::StatusOr<std::optional<supervision::Message>> Receive(bool dont_wait);

  int socket_;
  supervision::Conversation conversation_;
};

// The error for a message whose descriptor is of another kind than it should be.
absl::Status WrongDescriptor();

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_CONTROL_END_H_
