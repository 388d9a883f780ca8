// SPDX-License-Identifier: Apache-2.0
// The TLS handshake of one connection, accepted or made: exactly one record at a time from the
// socket into OpenSSL, so that at its end nothing of the application's data is inside OpenSSL. Runs
// in the handshaker; everything read is the Internet's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_
#define TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_

#include <asio/awaitable.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "broker/handshaker/client_context.h"
#include "broker/handshaker/record_scanner.h"
#include "broker/handshaker/service.h"
#include "broker/handshaker/tcp_connection.h"
#include "broker/handshaker/traffic_secrets.h"

namespace tlsbroker {

// A connection whose handshake is done: everything that OpenSSL wrote was sent, and OpenSSL has
// used everything that it was given.
class Handshaken {
 public:
  SSL* ssl() const { return ssl_.get(); }
  TlsVersion version() const { return version_; }
  bool we_are_server() const { return SSL_is_server(ssl_.get()) == 1; }
  // nullopt for a suite that the kernel does not know; the policies offer none of those.
  std::optional<Suite> suite() const;
  // The state that the kernel needs to go on from here.
  absl::StatusOr<SessionKeys> DeriveKeys(OSSL_LIB_CTX* library) const;
  // The secrets of TLS 1.3; null in TLS 1.2.
  const Tls13Secrets* tls13_secrets() const {
    return version_ == TlsVersion::kTls13 ? secrets_.get() : nullptr;
  }
  // For the relay, which goes on with OpenSSL. Our copy of the secrets is wiped.
  SslPtr TakeSsl();

 private:
  friend class Handshaker;
  Handshaken() = default;

  // What a client has sent under its application secret. With today's OpenSSL that is nothing.
  struct SentByClient {
    bool finished = false;
    uint64_t records = 0;  // after Finished
    static void OnMessage(int is_write, int version, int content_type, const void* data,
                          size_t size, SSL* ssl, void* self);
  };

  std::unique_ptr<Tls13Secrets> secrets_;
  std::unique_ptr<SentByClient> sent_by_client_;  // null on a server
  SslPtr ssl_;
  TlsVersion version_ = TlsVersion::kTls13;
  RecordScanner sent_;
};

enum class HandshakeFailure {
  kTimeout,
  kSilence,      // the same, but the peer never sent a byte
  kPeerGone,     // closed or reset in the middle
  kNothingSent,  // closed or reset before it sent a byte: a port scan, or somebody's health check
  kNoTls,        // the first bytes are something else; an alert was sent
  kTls,          // OpenSSL refused; an alert was sent or received
  kLeftOver,     // data beyond the handshake is inside OpenSSL: not to be handed off
  kOutOfMemory,  // OpenSSL could not make its objects
};
const char* HandshakeFailureName(HandshakeFailure failure);
// Whether the peer has got, or gave, an alert.
inline bool SentAlert(HandshakeFailure failure) {
  return failure == HandshakeFailure::kTls || failure == HandshakeFailure::kNoTls;
}
void Count(Shared& shared, HandshakeFailure failure);

struct HandshakeResult {
  std::optional<Handshaken> done;
  HandshakeFailure failure = HandshakeFailure::kPeerGone;
  std::string detail;       // OpenSSL's words, or ours for kNoTls
  std::string server_name;  // that the client asked for, if it came so far
  request::Result refusal = request::Result::kHandshake;  // for kTls of a client: why
};

// Does the handshake as the server. Gives up after `limit` in all. The socket stays with
// `connection`. A connection that has to be relayed (WhyNotKtls) has got no tickets of TLS 1.3
// then.
asio::awaitable<HandshakeResult> Handshake(const Shared& shared, const Service& service,
                                           TcpConnection& connection,
                                           std::chrono::milliseconds limit);

// Does the handshake as a client of `expected`, which has to outlive the call.
asio::awaitable<HandshakeResult> Handshake(TcpConnection& connection, const ClientContext& tls,
                                           const ExpectedServer& expected,
                                           std::chrono::milliseconds limit);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_
