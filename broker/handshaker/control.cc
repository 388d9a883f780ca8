#include "broker/handshaker/control.h"

#include <utility>
#include <variant>

#include "broker/support/descriptors.h"
#include "broker/support/secret_bytes.h"
#include "broker/support/status.h"
#include "protocol/channel.h"

namespace tlsbroker {
namespace {

// Decodes, and wipes the bytes: they may have been ticket keys.
std::optional<supervision::Message> DecodeAndWipe(channel::Message& message) {
  auto decoded = supervision::Decode(message.bytes, std::move(message.fds));
  Wipe(message.bytes.data(), message.bytes.size());
  return decoded;
}

// Puts the parts of the snapshot where they belong; false for what is no part of it, and for a
// descriptor that is something else.
struct Collector {
  Snapshot& snapshot;

  bool operator()(supervision::Confinement& m) const {
    snapshot.confinement = m;
    return true;
  }
  bool operator()(supervision::Settings& m) const {
    snapshot.settings = std::move(m);
    return IsChannel(snapshot.settings.signing_channel.get()) &&
           IsReadOnlyFile(snapshot.settings.rekey_lock.get());
  }
  bool operator()(supervision::TicketKeys& m) const {
    snapshot.ticket_keys = std::move(m);
    return true;
  }
  bool operator()(supervision::Certificate& m) const {
    snapshot.certificates.push_back(std::move(m));
    return true;
  }
  bool operator()(supervision::TrustAnchors& m) const {
    snapshot.trust.push_back(std::move(m));
    return IsReadOnlyFile(snapshot.trust.back().file.get());
  }
  bool operator()(supervision::Upstream& m) const {
    snapshot.upstreams.push_back(std::move(m));
    return true;
  }
  bool operator()(supervision::Service& m) const {
    snapshot.services.push_back(std::move(m));
    return IsChannel(snapshot.services.back().queue.get()) &&
           IsChannel(snapshot.services.back().requests.get());
  }
  bool operator()(supervision::Listener& m) const {
    snapshot.listeners.push_back(std::move(m));
    return IsTcpListener(snapshot.listeners.back().socket.get());
  }
  template <typename Other>
  bool operator()(Other&) const {
    return false;
  }
};

}  // namespace

absl::StatusOr<Snapshot> ReceiveSnapshot(int control) {
  Snapshot snapshot;
  channel::Message message;
  while (true) {
    const auto result =
        channel::Receive(control, supervision::kMaxMessage, channel::kMaxFds, message);
    if (result != channel::Result::kOk) return absl::UnavailableError("the supervisor is gone");
    auto decoded = DecodeAndWipe(message);
    if (!decoded) return absl::InvalidArgumentError("malformed message of the supervisor");
    if (std::holds_alternative<supervision::Start>(*decoded)) return snapshot;
    if (!std::visit(Collector{snapshot}, *decoded)) {
      return absl::InvalidArgumentError("unexpected message of the supervisor");
    }
  }
}

bool Report(int control, const supervision::Message& message) {
  const supervision::Encoded encoded = supervision::Encode(message);
  return channel::Send(control, encoded.bytes, encoded.fds, /*dont_wait=*/true) ==
         channel::Result::kOk;
}

asio::awaitable<std::optional<supervision::Message>> NextMessage(AsyncFd& control) {
  channel::Message message;
  while (true) {
    const auto result = channel::Receive(control.get(), supervision::kMaxMessage, channel::kMaxFds,
                                         message, /*dont_wait=*/true);
    if (result == channel::Result::kOk) co_return DecodeAndWipe(message);
    if (result != channel::Result::kWouldBlock || !co_await control.WaitReadable())
      co_return std::nullopt;
  }
}

}  // namespace tlsbroker
