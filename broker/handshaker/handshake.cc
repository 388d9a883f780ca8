// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/handshake.h"

#include <asio/post.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <functional>
#include <vector>

#include "broker/handshaker/deadline.h"
#include "broker/handshaker/first_record.h"
#include "broker/handshaker/tls_policy.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// Records of one connection that are read before another connection has its turn. A client that
// cuts a ClientHello into 100,000 records (RFC 8446 section 5.1 allows it) waits for the others;
// they do not wait for it.
constexpr int kHandshakeRecordsPerTurn = 16;

// The bytes that OpenSSL wants to send, still in its BIO.
std::span<const uint8_t> Pending(SSL* ssl) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl), &data);
  return {reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size)};
}

}  // namespace

const char* HandshakeFailureName(HandshakeFailure failure) {
  switch (failure) {
    case HandshakeFailure::kTimeout:
      return "timeout";
    case HandshakeFailure::kSilence:
      return "silence";
    case HandshakeFailure::kPeerGone:
      return "peer-gone";
    case HandshakeFailure::kNothingSent:
      return "closed-at-once";
    case HandshakeFailure::kNoTls:
      return "no-tls";
    case HandshakeFailure::kTls:
      return "tls";
    case HandshakeFailure::kLeftOver:
      return "left-over-data";
    case HandshakeFailure::kOutOfMemory:
      return "out-of-memory";
  }
  return "unknown";
}

void Count(Shared& shared, HandshakeFailure failure) {
  const bool late = failure == HandshakeFailure::kTimeout || failure == HandshakeFailure::kSilence;
  ++(late ? shared.counters.handshakes_timed_out : shared.counters.handshakes_failed);
}

enum class Speaks { kFirst, kSecond };

// One handshake under way.
class Handshaker {
 public:
  using NewSsl = std::function<absl::StatusOr<SslPtr>(Tls13Secrets*)>;
  // What is said of a connection of TLS 1.3, on a server, as soon as its suite is known.
  using TicketsLater = std::function<bool(std::optional<Suite>)>;

  Handshaker(AsyncFd& socket, Speaks we, const NewSsl& new_ssl, const TicketsLater& tickets_later)
      : socket_(socket), we_(we), new_ssl_(new_ssl), tickets_later_(tickets_later) {}

  asio::awaitable<HandshakeResult> Run() {
    const auto executor = co_await asio::this_coro::executor;
    if (we_ == Speaks::kSecond) {
      // Reads the first record before any memory is spent on OpenSSL, so that clients that stay
      // silent cost nothing.
      const auto failure = co_await ReadRecord(&JudgeFirst);
      if (failure) co_return Fail(*failure, no_tls_);
    }
    if (!Start()) co_return Fail(HandshakeFailure::kOutOfMemory);
    for (int records = 1;; ++records) {
      const int step = Step();
      // Read before the next suspension: OpenSSL's error queue belongs to the thread, not to this
      // connection.
      const std::string error = ErrorText();
      const bool sent = co_await Flush();
      if (!sent) co_return Fail(HandshakeFailure::kPeerGone);
      if (step == SSL_ERROR_NONE) break;
      if (step != SSL_ERROR_WANT_READ || too_long_) co_return Refused(error);
      DecideTickets();
      if (records % kHandshakeRecordsPerTurn == 0)
        co_await asio::post(executor, asio::use_awaitable);
      const auto failure = co_await ReadRecord(nullptr);
      if (failure) co_return Fail(HandshakeFailure::kPeerGone);
    }
    StopRecordingSecrets(done_.ssl());
    SSL_set_msg_callback(done_.ssl(), nullptr);
    if (!NothingLeft()) co_return Fail(HandshakeFailure::kLeftOver);
    done_.version_ =
        SSL_version(done_.ssl()) == TLS1_3_VERSION ? TlsVersion::kTls13 : TlsVersion::kTls12;
    HandshakeResult result;
    result.done = std::move(done_);
    co_return result;
  }

 private:
  static HandshakeResult Fail(HandshakeFailure failure, std::string detail = "") {
    HandshakeResult result;
    result.failure = failure;
    result.detail = std::move(detail);
    return result;
  }

  // Reads one whole record into record_, and not a byte more: what comes after it may be the
  // application's. Of one that is too long it reads the header alone, to which OpenSSL has the
  // right answer. `judge` looks at the header first; what it refuses is answered here.
  asio::awaitable<std::optional<HandshakeFailure>> ReadRecord(NoTls (*judge)(RecordHeader)) {
    record_.resize(kRecordHeader);
    size_t received = co_await Receive(socket_, record_);
    if (received < kRecordHeader) {
      co_return received == 0 ? HandshakeFailure::kNothingSent : HandshakeFailure::kPeerGone;
    }
    const RecordHeader header = std::span(record_).first<kRecordHeader>();
    const size_t size = BodySize(header);
    if (const NoTls no_tls = judge != nullptr ? judge(header) : NoTls(); no_tls.what != nullptr) {
      no_tls_ = no_tls.what;
      const auto alert = PlainAlert(no_tls.alert);
      (void)co_await SendAll(socket_, alert);
      co_return HandshakeFailure::kNoTls;
    }
    too_long_ = size > kMaxRecordBody;
    if (too_long_) co_return std::nullopt;
    record_.resize(kRecordHeader + size);
    const auto body = std::span(record_).subspan(kRecordHeader);
    received = co_await Receive(socket_, body);
    if (received < size) co_return HandshakeFailure::kPeerGone;
    co_return std::nullopt;
  }

  HandshakeResult Refused(std::string detail) const {
    HandshakeResult result;
    const char* name = SSL_get_servername(done_.ssl(), TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) result.server_name = name;
    result.failure = HandshakeFailure::kTls;
    if (we_ == Speaks::kFirst) result.refusal = ClientContext::WhyRefused(done_.ssl(), detail);
    result.detail = std::move(detail);
    return result;
  }

  bool Start() {
    done_.secrets_ = std::make_unique<Tls13Secrets>();
    auto ssl = new_ssl_(done_.secrets_.get());
    if (!ssl.ok()) return false;
    done_.ssl_ = std::move(ssl).value();
    if (we_ == Speaks::kSecond) return true;
    done_.sent_by_client_ = std::make_unique<Handshaken::SentByClient>();
    SSL_set_msg_callback(done_.ssl(), &Handshaken::SentByClient::OnMessage);
    SSL_set_msg_callback_arg(done_.ssl(), done_.sent_by_client_.get());
    return true;
  }

  // May ask the keyholder for a signature and wait for it (keyholder_signature.cc): no other
  // connection of this process goes on meanwhile.
  // SSL_ERROR_NONE: the handshake is done. SSL_ERROR_WANT_READ: OpenSSL needs another record.
  int Step() {
    ClearErrors();
    const int size = static_cast<int>(record_.size());
    if (size > 0 && BIO_write(SSL_get_rbio(done_.ssl()), record_.data(), size) != size)
      return SSL_ERROR_SSL;
    return SSL_get_error(done_.ssl(), SSL_do_handshake(done_.ssl()));
  }

  // OpenSSL sends the tickets in the step that finds the client's Finished, which it waits for.
  void DecideTickets() {
    const SSL_CIPHER* cipher = SSL_get_pending_cipher(done_.ssl());
    const bool tls13 = SSL_version(done_.ssl()) == TLS1_3_VERSION;
    if (we_ == Speaks::kFirst || !tls13 || cipher == nullptr) return;
    if (tickets_later_(SuiteOf(SSL_CIPHER_get_protocol_id(cipher)))) {
      SSL_set_num_tickets(done_.ssl(), 0);
    }
  }

  static std::string ErrorText() {
    const unsigned long error = ERR_peek_error();
    const char* reason = error != 0 ? ERR_reason_error_string(error) : nullptr;
    return reason != nullptr ? reason : "";
  }

  // Sends OpenSSL's flight. The socket has no TX keys yet, so the bytes go out as they are.
  asio::awaitable<bool> Flush() {
    const auto flight = Pending(done_.ssl());
    if (!done_.sent_.Scan(flight)) co_return false;
    if (flight.empty()) co_return true;
    const bool sent = co_await SendAll(socket_, flight);
    BIO_reset(SSL_get_wbio(done_.ssl()));
    co_return sent;
  }

  bool NothingLeft() const {
    return BIO_pending(SSL_get_rbio(done_.ssl())) == 0 && SSL_has_pending(done_.ssl()) == 0;
  }

  AsyncFd& socket_;
  const Speaks we_;
  const NewSsl& new_ssl_;
  const TicketsLater& tickets_later_;
  Handshaken done_;
  std::vector<uint8_t> record_;  // the one that came last; empty before the first
  bool too_long_ = false;        // only its header is there
  std::string no_tls_;           // what came instead of TLS
};

// OpenSSL reports a record first, then the message in it. So the records that it reports after
// Finished are those that follow it (RFC 8446 section 7.1: under the application secret).
void Handshaken::SentByClient::OnMessage(int is_write, int /*version*/, int content_type,
                                         const void* data, size_t size, SSL* /*ssl*/, void* self) {
  auto& sent = *static_cast<SentByClient*>(self);
  if (is_write == 0 || size == 0) return;
  if (content_type == SSL3_RT_HEADER && sent.finished) ++sent.records;
  if (content_type == SSL3_RT_HANDSHAKE && *static_cast<const uint8_t*>(data) == SSL3_MT_FINISHED) {
    sent.finished = true;
  }
}

SslPtr Handshaken::TakeSsl() {
  secrets_.reset();
  return std::move(ssl_);
}

std::optional<Suite> Handshaken::suite() const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_.get());
  return cipher != nullptr ? SuiteOf(SSL_CIPHER_get_protocol_id(cipher)) : std::nullopt;
}

absl::StatusOr<SessionKeys> Handshaken::DeriveKeys(OSSL_LIB_CTX* library) const {
  const std::optional<Suite> suite = this->suite();
  if (!suite) return absl::InternalError("no suite");
  const EVP_MD* md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl_.get()));
  const char* digest = EVP_MD_get0_name(md);
  if (version_ == TlsVersion::kTls13) {
    if (secrets_->client.empty() || secrets_->server.empty()) {
      return absl::InternalError("OpenSSL's key log had no application traffic secrets");
    }
    const uint64_t sent = sent_by_client_ ? sent_by_client_->records : sent_.protected_records();
    return DeriveTls13(library, *suite, digest, *secrets_, sent, we_are_server());
  }
  if (!sent_.has_finished_nonce()) return absl::InternalError("our Finished was not seen");
  Tls12Secrets secrets;
  const auto master = secrets.master.Resize(SSL_MAX_MASTER_KEY_LENGTH);
  if (SSL_SESSION_get_master_key(SSL_get_session(ssl_.get()), master.data(), master.size()) !=
      master.size()) {
    return absl::InternalError("no master secret");
  }
  SSL_get_client_random(ssl_.get(), secrets.client_random.data(), secrets.client_random.size());
  SSL_get_server_random(ssl_.get(), secrets.server_random.data(), secrets.server_random.size());
  return DeriveTls12(library, *suite, digest, secrets, sent_.finished_nonce(), we_are_server());
}

namespace {

asio::awaitable<HandshakeResult> RunHandshake(TcpConnection& connection, Speaks we,
                                              const Handshaker::NewSsl& new_ssl,
                                              const Handshaker::TicketsLater& tickets_later,
                                              std::chrono::milliseconds limit) {
  const auto executor = co_await asio::this_coro::executor;
  const Deadline deadline(executor, limit, connection.socket);
  Handshaker handshaker(connection.socket, we, new_ssl, tickets_later);
  HandshakeResult result = co_await handshaker.Run();
  if (deadline.passed()) {
    const bool silent = result.failure == HandshakeFailure::kNothingSent;
    result.done.reset();
    result.failure = silent ? HandshakeFailure::kSilence : HandshakeFailure::kTimeout;
  }
  co_return result;
}

}  // namespace

asio::awaitable<HandshakeResult> Handshake(const Shared& shared, const Service& service,
                                           TcpConnection& connection,
                                           std::chrono::milliseconds limit) {
  const Handshaker::NewSsl new_ssl = [&service](Tls13Secrets* secrets) {
    return service.tls->NewConnection(secrets);
  };
  // The kernel has to take a connection over after its session ticket was sent. A relay sends the
  // ticket itself (relay.h says when).
  const Handshaker::TicketsLater tickets_later = [&](std::optional<Suite> suite) {
    return !WhyNotKtls(shared, service, connection, TlsVersion::kTls13, suite).empty();
  };
  HandshakeResult result =
      co_await RunHandshake(connection, Speaks::kSecond, new_ssl, tickets_later, limit);
  // The client's Finished and its first data are two small writes. Without a ticket nothing of ours
  // would carry the acknowledgement of the first, and a client without TCP_NODELAY would wait 40 ms
  // for it (tcp_delack_min) before it sends the second.
  if (result.done) AcknowledgeNow(connection.socket.get());
  co_return result;
}

asio::awaitable<HandshakeResult> Handshake(TcpConnection& connection, const ClientContext& tls,
                                           const ExpectedServer& expected,
                                           std::chrono::milliseconds limit) {
  const Handshaker::NewSsl new_ssl = [&tls, &expected](Tls13Secrets* secrets) {
    return tls.NewConnection(expected, secrets);
  };
  const Handshaker::TicketsLater none;
  HandshakeResult result = co_await RunHandshake(connection, Speaks::kFirst, new_ssl, none, limit);
  co_return result;
}

}  // namespace tlsbroker
