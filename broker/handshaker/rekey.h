// SPDX-License-Identifier: Apache-2.0
// Installs the next keys of a connection that left this process long ago, with what its worker
// brings: the socket and its token. Stateless: the kernel knows which keys the connection has. Runs
// in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_REKEY_H_
#define TLSBROKER_BROKER_HANDSHAKER_REKEY_H_

#include <openssl/types.h>

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "broker/support/secret_bytes.h"
#include "protocol/request.h"

namespace tlsbroker {

// SO_COOKIE, the kernel's number of a socket, which no other socket ever gets. nullopt if `socket`
// is no connected TCP socket.
std::optional<uint64_t> CookieOf(int socket);

struct RekeyOutcome {
  request::Answer answer;
  absl::Status status;  // why not kDone, for the log
};

// Does not block. The worker neither reads nor writes the direction meanwhile.
RekeyOutcome NextKeys(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                      const request::Rekey& rekey, int socket);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_REKEY_H_
