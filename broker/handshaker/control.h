// The control socket: the configuration snapshot at the start, Accept, ticket keys and Drain
// later, readiness and counters back. Runs in the handshaker; the supervisor is trusted, its
// messages are decoded strictly all the same.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_

#include <asio/awaitable.hpp>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/async_fd.h"
#include "protocol/supervision.h"

namespace tlsbroker {

struct Snapshot {
  supervision::Confinement confinement;
  supervision::Settings settings;
  supervision::TicketKeys ticket_keys;
  std::vector<supervision::Certificate> certificates;
  std::vector<supervision::TrustAnchors> trust;
  std::vector<supervision::Upstream> upstreams;
  std::vector<supervision::Service> services;
  std::vector<supervision::Listener> listeners;
};

// Blocks until Start has come.
absl::StatusOr<Snapshot> ReceiveSnapshot(int control);

// One message to the supervisor; false if it did not go out. Never blocks.
bool Report(int control, const supervision::Message& message);

// The next message; nullopt at the end of file or for one that is not understood.
asio::awaitable<std::optional<supervision::Message>> NextMessage(AsyncFd& control);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONTROL_H_
