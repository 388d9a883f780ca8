// SPDX-License-Identifier: Apache-2.0
// What this kernel takes: every version x suite x direction tried with a real connection over the
// loopback device, since /proc and module lists say nothing in a container. Runs in the handshaker
// at its start and in `tlsbroker-handshaker --probe`; trusts only what came out on the wire.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KTLS_CAPABILITIES_H_
#define TLSBROKER_BROKER_HANDSHAKER_KTLS_CAPABILITIES_H_

#include <openssl/types.h>

#include <array>
#include <string>

#include "broker/handshaker/ktls_socket.h"
#include "broker/handshaker/traffic_secrets.h"

namespace tlsbroker {

inline constexpr std::array kVersions = {TlsVersion::kTls13, TlsVersion::kTls12};
inline constexpr std::array kSuites = {Suite::kAes128Gcm, Suite::kAes256Gcm,
                                       Suite::kChaCha20Poly1305};
inline constexpr std::array kDirections = {Direction::kTx, Direction::kRx};

// One thing that the kernel can do or not. `reason` is a token for descriptions and logs
// ("kernel-no-tls-ulp", "kernel-no-aes-256-gcm-rx"), `detail` a sentence for people; both are empty
// when ok.
struct DirectionSupport {
  bool ok = false;
  std::string reason;
  std::string detail;
};

class KtlsCapabilities {
 public:
  // Takes some milliseconds, five seconds at worst. Makes sockets on the loopback address and
  // closes them, so it must run before the sandbox forbids that.
  static KtlsCapabilities Probe(OSSL_LIB_CTX* library);

  // Both directions work, so a connection of this kind may be handed over directly.
  bool Supports(TlsVersion version, Suite suite) const;
  // The token of the first direction that does not; empty when Supports().
  std::string Reason(TlsVersion version, Suite suite) const;

  const DirectionSupport& Get(TlsVersion version, Suite suite, Direction direction) const;

  bool ulp() const { return ulp_.ok; }
  const DirectionSupport& ulp_support() const { return ulp_; }
  // A second key of TLS 1.3 in the same direction, as KeyUpdate needs.
  const DirectionSupport& rekey(Direction direction) const;

 private:
  friend class CapabilityProbe;
  KtlsCapabilities() = default;

  DirectionSupport& At(TlsVersion version, Suite suite, Direction direction);

  using PerDirection = std::array<DirectionSupport, kDirections.size()>;

  DirectionSupport ulp_;
  std::array<std::array<PerDirection, kSuites.size()>, kVersions.size()> combos_;
  PerDirection rekey_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_KTLS_CAPABILITIES_H_
