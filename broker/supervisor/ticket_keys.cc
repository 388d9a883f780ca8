// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/ticket_keys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <string>
#include <utility>

#include "broker/support/secret_bytes.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {

TicketKeysMessage::~TicketKeysMessage() {
  auto& [keys, sealing] = keys_;
  Wipe(keys.data(), keys.size() * sizeof(supervision::TicketKey));
  Wipe(sealing.data(), sealing.size());
}

void TicketKeyRing::Unmap::operator()(Secrets* secrets) const {
  Wipe(secrets, sizeof(*secrets));
  (void)munmap(secrets, sizeof(*secrets));
}

absl::Status TicketKeyRing::Rotate() {
  if (!secrets_) {
    void* memory =
        mmap(nullptr, sizeof(Secrets), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return ErrnoStatus("memory for ticket keys");
    secrets_.reset(static_cast<Secrets*>(memory));
    (void)mlock(memory, sizeof(Secrets));  // as far as RLIMIT_MEMLOCK goes
    if (madvise(memory, sizeof(Secrets), MADV_DONTDUMP) != 0 ||
        madvise(memory, sizeof(Secrets), MADV_WIPEONFORK) != 0)
      return ErrnoStatus("memory for ticket keys");
  }
  auto& [keys, count, sealing] = *secrets_;
  // getrandom(2): up to 256 bytes come whole once the kernel's generator is ready.
  static_assert(sizeof(supervision::TicketKey) <= 256);
  supervision::TicketKey fresh;
  if (getrandom(&fresh, sizeof(fresh), 0) != static_cast<ssize_t>(sizeof(fresh)))
    return ErrnoStatus("getrandom");
  if (count == 0 &&
      getrandom(sealing.data(), sealing.size(), 0) != static_cast<ssize_t>(sealing.size())) {
    return ErrnoStatus("getrandom");
  }
  std::ranges::move_backward(keys.begin(), keys.end() - 1, keys.end());
  keys.front() = fresh;
  Wipe(&fresh, sizeof(fresh));
  count = std::min(count + 1, keys.size());
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

absl::StatusOr<UniqueFd> TicketKeyRing::RekeyLock() const {
  UniqueFd file(fcntl(rekey_lock_.get(), F_DUPFD_CLOEXEC, 0));
  if (!file) return ErrnoStatus("copying the lock of the handshakers");
  return file;
}

TicketKeysMessage TicketKeyRing::Message() const {
  supervision::TicketKeys keys;
  if (secrets_) {
    keys.keys.assign(secrets_->keys.begin(),
                     secrets_->keys.begin() + static_cast<std::ptrdiff_t>(secrets_->count));
    keys.sealing = secrets_->sealing;
  }
  return TicketKeysMessage(std::move(keys));
}

}  // namespace tlsbroker::supervisor
