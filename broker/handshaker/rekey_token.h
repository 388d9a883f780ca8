// SPDX-License-Identifier: Apache-2.0
// A rekey token: the traffic secrets of one connection, sealed with a key that only the broker has,
// for its worker to carry. It is good for one socket and one generation of its keys. Runs in the
// handshaker; a token that comes back was in a stranger's hands.

#ifndef TLSBROKER_BROKER_HANDSHAKER_REKEY_TOKEN_H_
#define TLSBROKER_BROKER_HANDSHAKER_REKEY_TOKEN_H_

#include <openssl/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/secret_bytes.h"

namespace tlsbroker {

struct TokenContent {
  uint64_t cookie = 0;  // SO_COOKIE of the socket
  Suite suite = Suite::kAes128Gcm;
  bool we_are_server = true;
  Tls13Secrets secrets;
};

// AES-256-GCM under a key that is used once: it is derived from the sealing key and a random salt,
// which stands in front of the token.
absl::StatusOr<std::vector<uint8_t>> SealToken(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                                               const TokenContent& content);

// An error for anything but an unaltered token of that sealing key.
absl::StatusOr<TokenContent> OpenToken(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                                       std::span<const uint8_t> token);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_REKEY_TOKEN_H_
