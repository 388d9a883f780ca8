#include "broker/supervisor/ticket_keys.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "broker/support/status.h"

namespace tlsbroker::supervisor {

TicketKeysMessage::~TicketKeysMessage() {
  auto& [keys, sealing] = std::get<supervision::TicketKeys>(message_);
  Wipe(keys.data(), keys.size() * sizeof(supervision::TicketKey));
  Wipe(sealing.data(), sealing.size());
}

absl::Status TicketKeyRing::Rotate() {
  // getrandom(2): up to 256 bytes come whole once the kernel's generator is ready.
  static_assert(sizeof(supervision::TicketKey) <= 256);
  supervision::TicketKey fresh;
  if (getrandom(&fresh, sizeof(fresh), 0) != static_cast<ssize_t>(sizeof(fresh)))
    return ErrnoStatus("getrandom");
  if (count_ == 0 && getrandom(sealing_.data(), sealing_.size(), 0) !=
                         static_cast<ssize_t>(sealing_.size())) {
    return ErrnoStatus("getrandom");
  }
  std::ranges::move_backward(keys_.begin(), keys_.end() - 1, keys_.end());
  keys_.front() = fresh;
  Wipe(&fresh, sizeof(fresh));
  count_ = std::min(count_ + 1, keys_.size());
  return absl::OkStatus();
}

TicketKeysMessage TicketKeyRing::Message() const {
  supervision::TicketKeys keys;
  keys.keys.assign(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count_));
  keys.sealing = sealing_;
  return TicketKeysMessage(std::move(keys));
}

}  // namespace tlsbroker::supervisor
