// SPDX-License-Identifier: Apache-2.0
// What the sessions of a service have in common, whether it is the server or a client in them:
// versions and suites, and that the traffic secrets are read from OpenSSL's key log. Runs in the
// handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_
#define TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_

#include <string>

#include "absl/status/statusor.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/modes.h"

namespace tlsbroker {

absl::Status SetPolicy(SSL_CTX* context, const std::string& service, supervision::Policy policy,
                       supervision::KtlsMode ktls, const KtlsCapabilities& capabilities);

// Who uses OpenSSL's callbacks: a context's for the key log is this file's. A session's for
// messages is this file's while a server handshakes, handshake.cc's while a client does, nobody's
// between the handshake and the relay, and then the Relay's.

// For a server's context of SetPolicy(). OpenSSL logs a secret as text, with one sprintf(3) for
// each byte, which costs more than to derive the secret. So the key log is switched on only where
// the application traffic secrets come, which is after a Finished, the server's and the client's
// (RFC 8446 section 7.1), and only within the call that logs the secret.
void RecordSecretsBehindFinished(SSL_CTX* context);

// An SSL object between two memory BIOs, neither server nor client yet. The application traffic
// secrets are written into `secrets` while it handshakes with TLS 1.3. `secrets` has to live until
// the object is destroyed or StopRecordingSecrets() is called. `context` was set up by SetPolicy().
absl::StatusOr<SslPtr> NewSession(SSL_CTX* context, Tls13Secrets* secrets);

// From now on nothing is written into the `secrets` of NewSession().
void StopRecordingSecrets(SSL* ssl);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TLS_POLICY_H_
