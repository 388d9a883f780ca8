// The TLS side of one service: what is offered, which certificate answers which name, and how a
// connection's traffic secrets are overheard. Runs in the handshaker; OpenSSL parses here what the
// Internet sends.

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
#include "protocol/supervision.h"

namespace tlsbroker {

class TlsContext {
 public:
  // `keyring` has to outlive the context.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Create(
      OSSL_LIB_CTX* library, const supervision::Service& service,
      std::vector<std::shared_ptr<const LoadedCertificate>> certificates,
      const KtlsCapabilities& capabilities, const TicketKeyring& keyring);

  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // A server-side SSL object whose application traffic secrets are written into `secrets` while it
  // handshakes with TLS 1.3. `secrets` has to outlive the object, or StopListening().
  absl::StatusOr<SslPtr> NewConnection(Tls13Secrets* secrets) const;

 private:
  TlsContext(std::vector<std::shared_ptr<const LoadedCertificate>> certificates,
             const supervision::Service& service);

  absl::Status SetCertificates();
  absl::Status SetResumption(const supervision::Service& service, const TicketKeyring& keyring);
  void SetAlpn();

  static int OnCertificate(SSL* ssl, void* context);
  static int OnAlpn(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned int in_size, void* context);

  SslCtxPtr context_;
  CertificateChoice certificates_;
  std::string alpn_;  // length-prefixed names, in our order of preference
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TLS_CONTEXT_H_
