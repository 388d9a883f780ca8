// The client's side of TLS: whom it trusts, whom it expects, and what is wrong with the one it got.
// Runs in the handshaker; the server's certificates are a stranger's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_
#define TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/certificates.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/request.h"
#include "protocol/supervision.h"

namespace tlsbroker {

using X509StorePtr = OpensslPtr<X509_STORE, X509_STORE_free>;

// The certificates of a PEM file, from its start, whatever the offset: other processes share it.
// Before the confinement, which nothing may need a file after. `name` is for the error.
absl::StatusOr<X509StorePtr> LoadTrust(OSSL_LIB_CTX* library, int file, const std::string& name);

// SHA-256 of a SubjectPublicKeyInfo.
using Pin = std::array<uint8_t, 32>;

// Who the server has to be. Verifying always is all of it: there is no way to leave a part out.
struct ExpectedServer {
  std::string name;               // a host name, sent as SNI too, or an address
  std::vector<std::string> alpn;  // in order of preference
  std::vector<Pin> pins;          // one of these; none: any key
  X509_STORE* trust = nullptr;
  // What we show if it asks for a certificate.
  std::shared_ptr<const LoadedCertificate> certificate = nullptr;
};

// "example.org", "192.0.2.1", "2001:db8::1". OpenSSL would take ".example.org" for all names below.
bool IsServerName(const std::string& name);

class ClientContext {
 public:
  // TLS 1.2 and 1.3 whatever the service's policy, which is about its own clients. No resumption.
  static absl::StatusOr<std::unique_ptr<ClientContext>> Create(
      OSSL_LIB_CTX* library, const std::string& service, supervision::KtlsMode ktls,
      const KtlsCapabilities& capabilities);

  // See NewSession(). `expected` has to outlive the handshake.
  absl::StatusOr<SslPtr> NewConnection(const ExpectedServer& expected, Tls13Secrets* secrets) const;

  // What a handshake that OpenSSL gave up failed for, and OpenSSL's word for it.
  static request::Result WhyRefused(SSL* ssl, std::string& detail);

 private:
  SslCtxPtr context_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_
