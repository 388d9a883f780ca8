// SPDX-License-Identifier: Apache-2.0
// A TLS session between two OpenSSL objects in one process, over memory. It keeps everything that
// would go over the wire, and gives the secrets that a handshaker would take out. For tests only.

#ifndef TLSBROKER_TESTS_TESTLIB_MEMORY_SESSION_H_
#define TLSBROKER_TESTS_TESTLIB_MEMORY_SESSION_H_

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

// The records in `stream`; an empty list if it does not consist of whole records.
std::vector<std::string> SplitRecords(std::string_view stream);

class MemorySession {
 public:
  MemorySession(TlsVersion version, Suite suite);

  // False if a handshake failed; the reason is in OpenSSL's queue.
  bool Handshake();

  // The keys that a handshaker would install, and those that the client's kernel would.
  absl::StatusOr<SessionKeys> ServerKeys() const { return Keys(true); }
  absl::StatusOr<SessionKeys> ClientKeys() const { return Keys(false); }

  // Writes application data through one of the OpenSSL objects; returns the bytes on the wire.
  std::string ServerWrites(std::string_view text) { return Write(server_.get(), text); }
  std::string ClientWrites(std::string_view text) { return Write(client_.get(), text); }
  // The data that the object reads from these bytes of the wire; empty if it refuses them.
  std::string ServerReads(std::string_view wire) { return Read(server_.get(), wire); }
  std::string ClientReads(std::string_view wire) { return Read(client_.get(), wire); }

  SSL* server() { return server_.get(); }
  SSL* client() { return client_.get(); }

 private:
  absl::StatusOr<SessionKeys> Keys(bool server) const;
  Tls13Secrets TrafficSecrets() const;
  Tls12Secrets MasterSecret() const;
  SecretBytes Logged(std::string_view label) const;
  std::array<uint8_t, 8> FinishedNonce(bool server) const;
  static std::string Write(SSL* ssl, std::string_view text);
  static std::string Read(SSL* ssl, std::string_view wire);

  TlsVersion version_;
  Suite suite_;
  SslCtxPtr context_;
  SslPtr server_, client_;
  std::vector<std::string> keylog_;
  // What each side sent last during the handshake.
  std::string server_flight_, client_flight_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_TESTLIB_MEMORY_SESSION_H_
