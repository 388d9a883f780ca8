// The TLS handshake of one connection, accepted or made: exactly one record at a time from the
// socket into OpenSSL, so that at its end nothing of the application's data is inside OpenSSL. Runs
// in the handshaker; everything read is the Internet's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_
#define TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_

#include <asio/awaitable.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "broker/handshaker/admission.h"
#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/client_context.h"
#include "broker/handshaker/record_scanner.h"
#include "broker/handshaker/service.h"
#include "broker/handshaker/traffic_secrets.h"
#include "protocol/handoff.h"

namespace tlsbroker {

// A connection that was let in, or made for a worker. Nothing was read from it yet.
struct Accepted {
  AsyncFd socket;
  handoff::Endpoint peer, local;
  Admission::Ticket ticket;
  bool has_ulp = false;  // TCP_ULP "tls" is set; plain TCP until keys are installed
  std::string ulp_reason;
  bool of_worker = false;  // it was a worker's, which still has it
};

// A connection whose handshake is done; all that OpenSSL wrote was sent, all that it was given it
// has used.
class Handshaken {
 public:
  SSL* ssl() const { return ssl_.get(); }
  TlsVersion version() const { return version_; }
  bool we_are_server() const { return SSL_is_server(ssl_.get()) == 1; }
  // Empty for a suite that the kernel knows nothing about; the policies offer none.
  std::optional<Suite> suite() const;
  // What the kernel needs to go on from here.
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

  // Of a client: what it has sent under its application secret, which is nothing, or so OpenSSL
  // does it today.
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
  kPeerGone,     // closed, reset, or sent what is no TLS record
  kTls,          // OpenSSL refused; the alert was sent, or came
  kLeftOver,     // data beyond the handshake is inside OpenSSL: not to be handed off
  kOutOfMemory,  // OpenSSL could not make its objects
};
const char* HandshakeFailureName(HandshakeFailure failure);

struct HandshakeResult {
  std::optional<Handshaken> done;
  HandshakeFailure failure = HandshakeFailure::kPeerGone;
  std::string detail;                                     // OpenSSL's words, for the log
  request::Result refusal = request::Result::kHandshake;  // kTls of a client: why
};

// As the server. Gives up after `limit` in all. The socket stays with `connection`.
asio::awaitable<HandshakeResult> Handshake(Accepted& connection, const TlsContext& tls,
                                           std::chrono::milliseconds limit);

// As a client of `expected`, which has to outlive the call.
asio::awaitable<HandshakeResult> Handshake(Accepted& connection, const ClientContext& tls,
                                           const ExpectedServer& expected,
                                           std::chrono::milliseconds limit);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_HANDSHAKE_H_
