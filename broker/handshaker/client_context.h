// SPDX-License-Identifier: Apache-2.0
// The client's side of TLS: which certificates it trusts, which server it expects, and why it
// refused the server that answered. Runs in the handshaker; the server's certificates are a
// stranger's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_
#define TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/certificates.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/modes.h"
#include "protocol/request.h"

namespace tlsbroker {

using X509StorePtr = OpensslPtr<X509_STORE, X509_STORE_free>;

// Reads the certificates of a PEM file from its beginning, whatever the file's offset is: other
// processes share it. Has to be called before the confinement, after which this process may need no
// file. `name` is for the error message.
absl::StatusOr<X509StorePtr> LoadTrust(OSSL_LIB_CTX* library, int file, const std::string& name);

// The server that is expected. All of it is always verified: there is no way to leave a part out.
struct ExpectedServer {
  std::string name;                    // a host name, sent as SNI too, or an address
  std::vector<std::string> alpn;       // in order of preference
  std::vector<supervision::Pin> pins;  // the key has to be one of these; if empty, any key will do
  X509_STORE* trust = nullptr;
  // The certificate that we show if the server asks for one.
  std::shared_ptr<const LoadedCertificate> certificate = nullptr;
};

// "example.org", "192.0.2.1", "2001:db8::1". OpenSSL would take ".example.org" for all names below.
bool IsServerName(const std::string& name);

class ClientContext {
 public:
  // Offers TLS 1.2 and 1.3 whatever the service's policy is, since that is for the service's own
  // clients. Resumes no sessions.
  static absl::StatusOr<std::unique_ptr<ClientContext>> Create(
      OSSL_LIB_CTX* library, const std::string& service, supervision::KtlsMode ktls,
      const KtlsCapabilities& capabilities);

  // As NewSession() of tls_policy.h. `expected` has to outlive the handshake.
  absl::StatusOr<SslPtr> NewConnection(const ExpectedServer& expected, Tls13Secrets* secrets) const;

  // Why OpenSSL gave up a handshake; `detail` gets OpenSSL's own words.
  static request::Result WhyRefused(SSL* ssl, std::string& detail);

 private:
  SslCtxPtr context_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CLIENT_CONTEXT_H_
