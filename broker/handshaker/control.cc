// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/control.h"

#include <utility>
#include <variant>

#include "broker/support/descriptors.h"
#include "broker/support/secret_bytes.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/supervision.h"

namespace tlsbroker {
namespace {

// Decodes, and wipes the bytes: they may have been ticket keys.
std::optional<supervision::Message> DecodeAndWipe(supervision::Conversation& conversation,
                                                  channel::Message& message) {
  auto decoded = conversation.Decode(message.bytes, std::move(message.fds));
  Wipe(message.bytes.data(), message.bytes.size());
  return decoded;
}

// Puts the parts of the snapshot where they belong. Returns false for a message that is no part of
// a snapshot, and for a descriptor of the wrong kind.
struct Collector {
  Snapshot& snapshot;

  bool operator()(supervision::Confinement& m) const {
    snapshot.confinement = m;
    return true;
  }
  bool operator()(supervision::Settings& m) const {
    snapshot.settings = std::move(m);
    return IsPipeForWriting(snapshot.settings.signing_requests.get()) &&
           IsPipeForReading(snapshot.settings.signing_answers.get()) &&
           IsSealedFile(snapshot.settings.rekey_lock.get());
  }
  bool operator()(supervision::Limits& m) const {
    snapshot.limits = m;
    return true;
  }
  bool operator()(supervision::TicketKeys& m) const {
    snapshot.ticket_keys = std::move(m);
    return true;
  }
  bool operator()(supervision::Certificate& m) const {
    snapshot.certificates.push_back(std::move(m));
    const supervision::Certificate& certificate = snapshot.certificates.back();
    return !certificate.key_file && !certificate.has_passphrase && certificate.key_uri.empty();
  }
  bool operator()(supervision::TrustAnchors& m) const {
    snapshot.trust.push_back(std::move(m));
    return IsReadOnlyFile(snapshot.trust.back().file.get());
  }
  bool operator()(supervision::Upstream& m) const {
    snapshot.upstreams.push_back(std::move(m));
    return true;
  }
  bool operator()(supervision::ServiceTerms& m) const {
    snapshot.terms = std::move(m);
    return true;
  }
  bool operator()(supervision::Service& m) const {
    snapshot.service = std::move(m);
    return IsChannel(snapshot.service->queue.get()) && IsChannel(snapshot.service->requests.get());
  }
  bool operator()(supervision::Listener& m) const {
    snapshot.listeners.push_back(std::move(m));
    return IsTcpSocket(snapshot.listeners.back().socket.get());
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
    auto decoded = DecodeAndWipe(snapshot.conversation, message);
    if (!decoded) return absl::InvalidArgumentError("malformed message of the supervisor");
    if (std::holds_alternative<supervision::Start>(*decoded)) {
      if (!snapshot.service) return absl::InvalidArgumentError("a snapshot without a service");
      return snapshot;
    }
    if (!std::visit(Collector{snapshot}, *decoded)) {
      return absl::InvalidArgumentError("unexpected message of the supervisor");
    }
  }
}

asio::awaitable<std::optional<supervision::Message>> NextMessage(
    AsyncFd& control, supervision::Conversation& conversation) {
  channel::Message message;
  while (true) {
    const auto result = channel::Receive(control.get(), supervision::kMaxMessage, channel::kMaxFds,
                                         message, /*dont_wait=*/true);
    if (result == channel::Result::kOk) co_return DecodeAndWipe(conversation, message);
    if (result != channel::Result::kWouldBlock) co_return std::nullopt;
    const bool readable = co_await control.WaitReadable();
    if (!readable) co_return std::nullopt;
  }
}

}  // namespace tlsbroker
