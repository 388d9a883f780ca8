// SPDX-License-Identifier: Apache-2.0
// An OpenSSL provider, "tlsbroker", whose private keys are references to keys of the keyholder:
// key management that shows the public half and signatures that are made over the signing channel.
// Everything else (key exchange, verification, ciphers) comes from OpenSSL's own providers. Runs in
// the handshaker, in its only thread; no private number ever comes here.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_PROVIDER_H_
#define TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_PROVIDER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "broker/handshaker/keyholder_client.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

class KeyholderProvider {
 public:
  // Loads "tlsbroker" into `context`, which must have been given its other providers before and
  // must outlive this object; so must `client`. Sets the default properties of `context` to
  // "?provider!=tlsbroker": whatever another provider can do is left to it.
  static absl::StatusOr<std::unique_ptr<KeyholderProvider>> Load(OSSL_LIB_CTX* context,
                                                                 KeyholderClient* client);

  KeyholderProvider(const KeyholderProvider&) = delete;
  KeyholderProvider& operator=(const KeyholderProvider&) = delete;
  ~KeyholderProvider();

  // A key for SSL_CTX_use_cert_and_key: the public half is the certificate's, the private half is a
  // reference to the keyholder's key of that id. Signs RSA (PSS and PKCS#1), RSA-PSS, ECDSA and
  // Ed25519 with SHA-256, SHA-384 or SHA-512; libssl passes over schemes with other hashes. It may
  // outlive this object, and then fails to sign.
  absl::StatusOr<EvpPkeyPtr> MakeKey(uint16_t certificate_id, X509* leaf);

 private:
  KeyholderProvider(OSSL_LIB_CTX* context, OsslProviderPtr provider)
      : context_(context), provider_(std::move(provider)) {}

  OSSL_LIB_CTX* context_;
  OsslProviderPtr provider_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_PROVIDER_H_
