#include "broker/supervisor/ticket_keys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <string>
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
  if (count_ == 0 &&
      getrandom(sealing_.data(), sealing_.size(), 0) != static_cast<ssize_t>(sealing_.size())) {
    return ErrnoStatus("getrandom");
  }
  std::ranges::move_backward(keys_.begin(), keys_.end() - 1, keys_.end());
  keys_.front() = fresh;
  Wipe(&fresh, sizeof(fresh));
  count_ = std::min(count_ + 1, keys_.size());
  return absl::OkStatus();
}

UniqueFd TicketKeyRing::MakeLock() {
  UniqueFd file(memfd_create("rekey-lock", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file && fcntl(file.get(), F_ADD_SEALS,
                    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    file.Reset();
  }
  return file;
}

// A lock of flock(2) is that of one opening of a file, so each has to be opened anew.
absl::StatusOr<UniqueFd> TicketKeyRing::OpenRekeyLock() const {
  const std::string path = "/proc/self/fd/" + std::to_string(rekey_lock_.get());
  UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return ErrnoStatus("opening the lock of the handshakers");
  return file;
}

TicketKeysMessage TicketKeyRing::Message() const {
  supervision::TicketKeys keys;
  keys.keys.assign(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count_));
  keys.sealing = sealing_;
  return TicketKeysMessage(std::move(keys));
}

}  // namespace tlsbroker::supervisor
