// SPDX-License-Identifier: Apache-2.0
// The session ticket keys that all handshakers of a service share. They belong to the supervisor,
// so that tickets stay good over reloads and restarts of children: in memory only, wiped at the
// end.

#ifndef TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_
#define TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/ticket_keys.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// supervision::TicketKeys that wipes itself: one copy for one message.
class TicketKeysMessage {
 public:
  explicit TicketKeysMessage(supervision::TicketKeys keys) : keys_(std::move(keys)) {}
  TicketKeysMessage(TicketKeysMessage&&) = default;
  TicketKeysMessage& operator=(TicketKeysMessage&&) = delete;
  ~TicketKeysMessage();
  const supervision::TicketKeys& message() const { return keys_; }

 private:
  supervision::TicketKeys keys_;
};

class TicketKeyRing {
 public:
  // A key makes tickets for this long, and opens them for as many periods as there are keys.
  static constexpr std::chrono::hours kPeriod{8};
  static constexpr size_t kWindow = 3;

  // An empty file in memory that stays so.
  static UniqueFd MakeLock();

  // Makes a new first key; the oldest beyond the window is dropped.
  absl::Status Rotate();

  TicketKeysMessage Message() const;

  // The file that a handshaker locks while it changes a connection's keys: if two did so at once
  // for the same token, they would use the same record numbers twice with one key.
  absl::StatusOr<UniqueFd> RekeyLock() const;

 private:
  struct Secrets {
    std::array<supervision::TicketKey, kWindow> keys;
    size_t count;
    std::array<uint8_t, 32> sealing;  // made with the first key
  };
  struct Unmap {
    void operator()(Secrets* secrets) const;
  };

  // In a page of its own, which a forked process does not get (madvise(2), MADV_WIPEONFORK): one
  // that does an errand (elsewhere.h) may live on, and one that is to become a worker can be
  // stopped.
  std::unique_ptr<Secrets, Unmap> secrets_;  // with the first key
  UniqueFd rekey_lock_ = MakeLock();
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_TICKET_KEYS_H_
