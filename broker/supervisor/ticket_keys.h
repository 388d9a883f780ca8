// The session ticket keys that all handshakers share. They belong to the supervisor, so that
// tickets stay good over reloads and restarts of children: in memory only, wiped when they go.

#ifndef TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_
#define TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_

#include <array>
#include <chrono>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/support/secret_bytes.h"
#include "protocol/supervision.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// supervision::TicketKeys that wipes itself: one copy for one message.
class TicketKeysMessage {
 public:
  explicit TicketKeysMessage(supervision::TicketKeys keys) : message_(std::move(keys)) {}
  TicketKeysMessage(TicketKeysMessage&&) = default;
  TicketKeysMessage& operator=(TicketKeysMessage&&) = delete;
  ~TicketKeysMessage();
  const supervision::Message& message() const { return message_; }

 private:
  supervision::Message message_;
};

class TicketKeyRing {
 public:
  // A key makes tickets for this long, and opens them for as many periods as there are keys.
  static constexpr std::chrono::hours kPeriod{8};
  static constexpr size_t kWindow = 3;

  TicketKeyRing() = default;
  // An empty file in memory that stays so.
  static UniqueFd MakeLock();
  TicketKeyRing(const TicketKeyRing&) = delete;
  TicketKeyRing& operator=(const TicketKeyRing&) = delete;
  ~TicketKeyRing() {
    Wipe(keys_.data(), sizeof(keys_));
    Wipe(sealing_.data(), sealing_.size());
  }

  // A fresh first key; the oldest beyond the window goes.
  absl::Status Rotate();

  TicketKeysMessage Message() const;

  // A file of its own for one handshaker to lock while it changes a connection's keys: two that did
  // so at once for the same token would give one key to the same record numbers twice.
  absl::StatusOr<UniqueFd> OpenRekeyLock() const;

 private:
  std::array<supervision::TicketKey, kWindow> keys_{};
  size_t count_ = 0;
  std::array<uint8_t, 32> sealing_{};  // made with the first key
  UniqueFd rekey_lock_ = MakeLock();
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_
