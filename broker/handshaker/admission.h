// How many handshakes may be under way: in all, and for one source address. What is beyond is
// closed before any cryptography is done for it. Runs in the handshaker; addresses are the
// Internet's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ADMISSION_H_
#define TLSBROKER_BROKER_HANDSHAKER_ADMISSION_H_

#include <array>
#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "protocol/handoff.h"

namespace tlsbroker {

class Admission {
 public:
  enum class Verdict { kAdmitted, kTotalLimit, kSourceLimit };

  // One admitted handshake; counts until it is destroyed. The Admission has to outlive it.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : admission_(std::exchange(other.admission_, nullptr)), source_(other.source_) {}
    Ticket& operator=(Ticket&& other) noexcept {
      if (this != &other) {
        Release();
        admission_ = std::exchange(other.admission_, nullptr);
        source_ = other.source_;
      }
      return *this;
    }
    ~Ticket() { Release(); }
    void Release();

   private:
    friend class Admission;
    using Source = std::array<uint8_t, 16>;
    Ticket(Admission* admission, const Source& source) : admission_(admission), source_(source) {}
    Admission* admission_ = nullptr;
    Source source_{};
  };

  Admission(uint32_t max_total, uint32_t max_per_source)
      : max_total_(max_total), max_per_source_(max_per_source) {}

  // On kAdmitted `ticket` holds the place.
  Verdict Admit(const handoff::Endpoint& peer, Ticket& ticket);

  uint32_t active() const { return active_; }

 private:
  // An IPv4 address, or an IPv6 /64: one customer usually has all of it.
  static Ticket::Source SourceOf(const handoff::Endpoint& peer);

  const uint32_t max_total_;
  const uint32_t max_per_source_;
  uint32_t active_ = 0;
  absl::flat_hash_map<Ticket::Source, uint32_t> per_source_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ADMISSION_H_
