// SPDX-License-Identifier: Apache-2.0
// Makes, from a session's secrets, the structures that setsockopt(SOL_TLS) wants: key, IV, salt and
// record number of each direction. Runs in the handshaker, and in its capability probe; the secrets
// come from this process's own OpenSSL, the KDFs are OpenSSL's too.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TRAFFIC_SECRETS_H_
#define TLSBROKER_BROKER_HANDSHAKER_TRAFFIC_SECRETS_H_

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "broker/support/secret_bytes.h"

namespace tlsbroker {

enum class TlsVersion { kTls12, kTls13 };
enum class Suite { kAes128Gcm, kAes256Gcm, kChaCha20Poly1305 };

const char* VersionName(TlsVersion version);  // "TLSv1.2", "TLSv1.3", as OpenSSL says it
const char* SuiteName(Suite suite);           // "AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"

// The AEAD of a cipher suite by its number in the TLS registry (SSL_CIPHER_get_protocol_id()).
// nullopt for a suite that the policies do not offer.
std::optional<Suite> SuiteOf(uint16_t cipher_suite);

// One direction's tls12_crypto_info_* structure of <linux/tls.h>, whole, for 1.2 and 1.3 alike.
struct DirectionKeys {
  SecretBytes crypto_info;
};

struct SessionKeys {
  TlsVersion version;
  Suite suite;
  DirectionKeys tx, rx;
};

// client_application_traffic_secret_0 and server_application_traffic_secret_0 (RFC 8446 7.1).
struct Tls13Secrets {
  SecretBytes client, server;
};

// `digest` is the suite's hash, "SHA256" or "SHA384". `tx_sequence` counts the records that were
// sent under the application secret already: the session tickets. RX starts at 0.
absl::StatusOr<SessionKeys> DeriveTls13(OSSL_LIB_CTX* library, Suite suite, const char* digest,
                                        const Tls13Secrets& secrets, uint64_t tx_sequence,
                                        bool we_are_server = true);

// One direction of the same, starting at a record number.
absl::StatusOr<DirectionKeys> DeriveTls13Direction(OSSL_LIB_CTX* library, Suite suite,
                                                   const SecretBytes& secret, uint64_t sequence);

// The secret after a KeyUpdate (RFC 8446 7.2).
absl::StatusOr<SecretBytes> NextSecret(OSSL_LIB_CTX* library, Suite suite,
                                       const SecretBytes& secret);

struct Tls12Secrets {
  SecretBytes master;
  std::array<uint8_t, 32> client_random, server_random;
};

// Record 0 of both directions was Finished, so both start at 1. With GCM the explicit part of the
// nonce is our choice and must never repeat under one key (RFC 5288 3): the first one is
// `our_finished_explicit_nonce`, as it was on the wire, plus 1. ChaCha20-Poly1305 does not look at
// it.
absl::StatusOr<SessionKeys> DeriveTls12(OSSL_LIB_CTX* library, Suite suite, const char* prf_digest,
                                        const Tls12Secrets& secrets,
                                        std::array<uint8_t, 8> our_finished_explicit_nonce,
                                        bool we_are_server = true);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TRAFFIC_SECRETS_H_
