// SPDX-License-Identifier: Apache-2.0
// One private key of the broker: checked against its certificate, then used to sign. Runs in the
// keyholder, the only process that ever has one. The caller has to see to it that the key signs
// only what signing.h allows.

#ifndef TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_
#define TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/signing.h"

namespace tlsbroker {

inline constexpr int kMinRsaBits = 2048;

// "EC P-256", "RSA 2048", "ED25519".
std::string KeyDescription(const EVP_PKEY* key);

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
  // Signs once and verifies with the certificate: what serves a key by its URI may have other ideas
  // of signatures, or need what a confined process has not.
  absl::Status TryOut(X509* leaf) const;

  EvpPkeyPtr key_;
  signing::KeyType type_;
  // Ready to sign, by scheme. Finding the algorithms costs nearly as much as a signature of P-256.
  mutable std::map<uint16_t, EvpMdCtxPtr> prepared_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_PRIVATE_KEY_H_
