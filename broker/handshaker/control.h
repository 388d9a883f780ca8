// SPDX-License-Identifier: Apache-2.0
// The control socket: the configuration snapshot at the start, Accept, ticket keys and Drain later.
// Runs in the handshaker; the supervisor is trusted, but its messages are decoded strictly all the
// same.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_

#include <asio/awaitable.hpp>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/async_fd.h"
#include "protocol/conversation.h"
#include "protocol/role_messages.h"
#include "protocol/service_messages.h"
#include "protocol/ticket_keys.h"

namespace tlsbroker {

struct Snapshot {
  supervision::Conversation conversation{supervision::kToHandshaker};
  supervision::Confinement confinement;
  supervision::Settings settings;
  supervision::Limits limits;
  supervision::TicketKeys ticket_keys;
  std::vector<supervision::Certificate> certificates;
  std::vector<supervision::TrustAnchors> trust;
  std::vector<supervision::Upstream> upstreams;
  supervision::ServiceTerms terms;
  std::optional<supervision::Service> service;
  std::vector<supervision::Listener> listeners;
};

// Blocks until Start has come.
absl::StatusOr<Snapshot> ReceiveSnapshot(int control);

// The next message; nullopt at the end of file, and for a message that cannot be decoded or is out
// of order.
asio::awaitable<std::optional<supervision::Message>> NextMessage(
    AsyncFd& control, supervision::Conversation& conversation);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_
