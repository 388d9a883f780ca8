// SPDX-License-Identifier: Apache-2.0
// How many handshakes may be under way, and how many connections may be relayed: in all, and for
// one source address. A connection that is too many for the former is closed before any
// cryptography is done for it, one that is too many for the latter is closed after its handshake.
// Runs in the handshaker; the addresses are those of clients on the Internet.

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

  // The place of a connection that was admitted. The connection counts until this is destroyed. The
  // Admission has to outlive it.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept
        : admission_(std::exchange(other.admission_, nullptr)), source_(other.source_) {}
    Place& operator=(Place&& other) noexcept {
      if (this != &other) {
        Release();
        admission_ = std::exchange(other.admission_, nullptr);
        source_ = other.source_;
      }
      return *this;
    }
    ~Place() { Release(); }
    void Release();

   private:
    friend class Admission;
    using Source = std::array<uint8_t, 16>;
    Place(Admission* admission, const Source& source) : admission_(admission), source_(source) {}
    Admission* admission_ = nullptr;
    Source source_{};
  };

  Admission(uint32_t max_total, uint32_t max_per_source) { SetLimits(max_total, max_per_source); }
  // Connections that were admitted stay.
  void SetLimits(uint32_t max_total, uint32_t max_per_source) {
    max_total_ = max_total;
    max_per_source_ = max_per_source;
  }

  // On kAdmitted, `place` holds the connection's place.
  Verdict Admit(const handoff::Endpoint& peer, Place& place);

  uint32_t active() const { return active_; }

 private:
  // An IPv4 address, or an IPv6 /64: one customer usually has all of it.
  static Place::Source SourceOf(const handoff::Endpoint& peer);

  uint32_t max_total_ = 0;
  uint32_t max_per_source_ = 0;
  uint32_t active_ = 0;
  absl::flat_hash_map<Place::Source, uint32_t> per_source_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ADMISSION_H_
