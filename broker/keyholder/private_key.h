// One private key of the broker: checked against its certificate, then signing. Runs in the
// keyholder, the only process that ever has one. Only what signing.h allows is asked of it; that is
// the caller's to see to.

#ifndef TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_
#define TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/signing.h"

namespace tlsbroker {

inline constexpr int kMinRsaBits = 2048;

class PrivateKey {
 public:
  // Takes a key of a supported type that belongs to this certificate and can sign. Anything else
  // is an error that says what was found and what would be right.
  static absl::StatusOr<PrivateKey> Create(EvpPkeyPtr key, X509* leaf);

  signing::KeyType type() const { return type_; }

  // Signs all of `content` with a scheme for which signing::SchemeFits was true.
  absl::StatusOr<std::vector<uint8_t>> Sign(uint16_t scheme, wire::Bytes content) const;

 private:
  PrivateKey(EvpPkeyPtr key, signing::KeyType type) : key_(std::move(key)), type_(type) {}
  // Signs once and verifies with the certificate. The algorithms are loaded by this, too, which is
  // no longer possible once the process is confined.
  absl::Status TryOut(X509* leaf) const;

  EvpPkeyPtr key_;
  signing::KeyType type_;
  // Ready to sign, by scheme. Finding the algorithms costs nearly as much as a signature of P-256.
  mutable std::map<uint16_t, EvpMdCtxPtr> prepared_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_
