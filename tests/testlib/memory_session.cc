// SPDX-License-Identifier: Apache-2.0
// See the header.

#include "tests/testlib/memory_session.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"

namespace tlsbroker {
namespace {

constexpr size_t kHeader = 5;

// A self-signed P-256 certificate without any extension.
void UseNewCertificate(SSL_CTX* context) {
  const EvpPkeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr certificate(X509_new());
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  SSL_CTX_use_certificate(context, certificate.get());
  SSL_CTX_use_PrivateKey(context, key.get());
}

const char* Tls13Name(Suite suite) {
  switch (suite) {
    case Suite::kAes128Gcm:
      return "TLS_AES_128_GCM_SHA256";
    case Suite::kAes256Gcm:
      return "TLS_AES_256_GCM_SHA384";
    case Suite::kChaCha20Poly1305:
      return "TLS_CHACHA20_POLY1305_SHA256";
  }
  return nullptr;
}

const char* Tls12Name(Suite suite) {
  switch (suite) {
    case Suite::kAes128Gcm:
      return "ECDHE-ECDSA-AES128-GCM-SHA256";
    case Suite::kAes256Gcm:
      return "ECDHE-ECDSA-AES256-GCM-SHA384";
    case Suite::kChaCha20Poly1305:
      return "ECDHE-ECDSA-CHACHA20-POLY1305";
  }
  return nullptr;
}

SslPtr NewEnd(SSL_CTX* context) {
  SslPtr ssl(SSL_new(context));
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  return ssl;
}

std::string Drain(SSL* ssl) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(SSL_get_wbio(ssl), &data);
  std::string out(data, size > 0 ? static_cast<size_t>(size) : 0);
  (void)BIO_reset(SSL_get_wbio(ssl));
  return out;
}

void Feed(SSL* ssl, std::string_view bytes) {
  BIO_write(SSL_get_rbio(ssl), bytes.data(), static_cast<int>(bytes.size()));
}

// Does one step of the handshake on one side. What that side sent, if anything, is kept in
// `flight`.
bool Step(SSL* from, SSL* to, std::string& flight) {
  const int result = SSL_do_handshake(from);
  std::string sent = Drain(from);
  Feed(to, sent);
  if (!sent.empty()) flight = std::move(sent);
  return result == 1 || SSL_get_error(from, result) == SSL_ERROR_WANT_READ;
}

}  // namespace

std::vector<std::string> SplitRecords(std::string_view stream) {
  std::vector<std::string> records;
  while (!stream.empty()) {
    if (stream.size() < kHeader) return {};
    const size_t body = static_cast<uint8_t>(stream[3]) << 8 | static_cast<uint8_t>(stream[4]);
    if (stream.size() < kHeader + body) return {};
    records.emplace_back(stream.substr(0, kHeader + body));
    stream.remove_prefix(kHeader + body);
  }
  return records;
}

MemorySession::MemorySession(TlsVersion version, Suite suite)
    : version_(version), suite_(suite), context_(SSL_CTX_new(TLS_method())) {
  SSL_CTX* context = context_.get();
  UseNewCertificate(context);
  const int number = version == TlsVersion::kTls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  SSL_CTX_set_min_proto_version(context, number);
  SSL_CTX_set_max_proto_version(context, number);
  SSL_CTX_set_ciphersuites(context, Tls13Name(suite));
  SSL_CTX_set_cipher_list(context, Tls12Name(suite));
  SSL_CTX_set_app_data(context, this);
  SSL_CTX_set_keylog_callback(context, [](const SSL* ssl, const char* line) {
    auto* self = static_cast<MemorySession*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    if (SSL_is_server(ssl)) self->keylog_.emplace_back(line);
  });
  server_ = NewEnd(context);
  client_ = NewEnd(context);
  SSL_set_accept_state(server_.get());
  SSL_set_connect_state(client_.get());
}

bool MemorySession::Handshake() {
  while (!SSL_is_init_finished(server_.get()) || !SSL_is_init_finished(client_.get())) {
    if (!Step(client_.get(), server_.get(), client_flight_)) return false;
    if (!Step(server_.get(), client_.get(), server_flight_)) return false;
  }
  return true;
}

absl::StatusOr<SessionKeys> MemorySession::Keys(bool server) const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(server_.get());
  const char* digest = EVP_MD_get0_name(SSL_CIPHER_get_handshake_digest(cipher));
  if (version_ == TlsVersion::kTls12) {
    return DeriveTls12(nullptr, suite_, digest, MasterSecret(), FinishedNonce(server), server);
  }
  // After its handshake the server sends nothing but session tickets; a client sends none.
  const size_t tickets = server ? SplitRecords(server_flight_).size() : 0;
  return DeriveTls13(nullptr, suite_, digest, TrafficSecrets(), tickets, server);
}

SecretBytes MemorySession::Logged(std::string_view label) const {
  for (const std::string& line : keylog_) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() != 3 || words[0] != label) continue;
    const std::string bytes = absl::HexStringToBytes(words[2]);
    return SecretBytes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  }
  return {};
}

Tls13Secrets MemorySession::TrafficSecrets() const {
  return {Logged("CLIENT_TRAFFIC_SECRET_0"), Logged("SERVER_TRAFFIC_SECRET_0")};
}

Tls12Secrets MemorySession::MasterSecret() const {
  Tls12Secrets secrets;
  const auto room = secrets.master.Resize(48);
  SSL_SESSION_get_master_key(SSL_get_session(server_.get()), room.data(), room.size());
  SSL_get_client_random(server_.get(), secrets.client_random.data(), 32);
  SSL_get_server_random(server_.get(), secrets.server_random.data(), 32);
  return secrets;
}

// Finished is the last record of a TLS 1.2 flight, with the explicit nonce behind its header.
std::array<uint8_t, 8> MemorySession::FinishedNonce(bool server) const {
  std::array<uint8_t, 8> nonce{};
  const auto records = SplitRecords(server ? server_flight_ : client_flight_);
  if (!records.empty() && records.back().size() >= kHeader + nonce.size()) {
    std::copy_n(records.back().begin() + kHeader, nonce.size(), nonce.begin());
  }
  return nonce;
}

std::string MemorySession::Write(SSL* ssl, std::string_view text) {
  if (SSL_write(ssl, text.data(), static_cast<int>(text.size())) <= 0) return {};
  return Drain(ssl);
}

std::string MemorySession::Read(SSL* ssl, std::string_view wire) {
  Feed(ssl, wire);
  std::string text(wire.size() + 1, '\0');
  const int size = SSL_read(ssl, text.data(), static_cast<int>(text.size()));
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

}  // namespace tlsbroker
