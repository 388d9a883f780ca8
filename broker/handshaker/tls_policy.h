// What the sessions of a service have in common, whether it is the server or a client in them:
// versions and suites, and that the traffic secrets are overheard. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_
#define TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_

#include <string>

#include "absl/status/statusor.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/supervision.h"

namespace tlsbroker {

absl::Status SetPolicy(SSL_CTX* context, const std::string& service, supervision::Policy policy,
                       supervision::KtlsMode ktls, const KtlsCapabilities& capabilities);

// For a server's context of SetPolicy(): OpenSSL tells a secret as text, one sprintf(3) for each
// byte, which costs more than to derive it. So it is asked only where the application traffic
// secrets come, which is behind a Finished, the server's and the client's (RFC 8446 section 7.1),
// and within the call that has it.
void ListenBehindFinished(SSL_CTX* context);

// An SSL object between two memory BIOs, neither server nor client yet. The application traffic
// secrets are written into `secrets` while it handshakes with TLS 1.3. `secrets` has to outlive the
// object, or StopListening(). The context is one of SetPolicy().
absl::StatusOr<SslPtr> NewSession(SSL_CTX* context, Tls13Secrets* secrets);

// From now on `secrets` is not written into any more.
void StopListening(SSL* ssl);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_
