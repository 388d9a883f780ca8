// SPDX-License-Identifier: Apache-2.0
// The TLS side of one service: what is offered, which certificate answers which name, and how a
// connection's traffic secrets are got from OpenSSL's key log. Runs in the handshaker; OpenSSL
// parses here what the Internet sends.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TLS_CONTEXT_H_
#define TLSBROKER_BROKER_HANDSHAKER_TLS_CONTEXT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/certificates.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/ticket_keys.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/modes.h"

namespace tlsbroker {

class TlsContext {
 public:
  // `sealer` has to outlive the context.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Create(
      OSSL_LIB_CTX* library, const std::string& service, const supervision::ServiceTerms& terms,
      const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates,
      const KtlsCapabilities& capabilities, const TicketSealer& sealer);

  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // A server-side SSL object whose application traffic secrets are written into `secrets` while it
  // handshakes with TLS 1.3. `secrets` has to live until the object is destroyed or
  // StopRecordingSecrets() is called.
  absl::StatusOr<SslPtr> NewConnection(Tls13Secrets* secrets) const;

 private:
  TlsContext(const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates,
             const supervision::ServiceTerms& terms);

  absl::Status TryCertificates(
      const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates);
  absl::Status SetCertificates();
  absl::Status SetResumption(const std::string& service, uint32_t tickets,
                             const TicketSealer& sealer);
  void SetAlpn();

  static int OnCertificate(SSL* ssl, void* context);
  static int OnAlpn(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned int in_size, void* context);

  SslCtxPtr context_;
  CertificateChoice certificates_;
  CertificateChoice::Group loaded_;  // in context_: sessions begin with these
  std::string alpn_;                 // length-prefixed names, in our order of preference
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TLS_CONTEXT_H_
