// SPDX-License-Identifier: Apache-2.0
// The baselines: a server that does TLS in its own process.
//   bench-tls-server openssl PORT CHAIN KEY    with SSL_read and SSL_write
//   bench-tls-server ktls PORT CHAIN KEY       handshake by OpenSSL, then the kernel, and nothing
//   else

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "broker/handshaker/ktls_socket.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"
#include "tests/bench/programs/service.h"

namespace tlsbroker::bench {
namespace {

class OpensslStream : public Stream {
 public:
  OpensslStream(UniqueFd fd, SslPtr ssl) : fd_(std::move(fd)), ssl_(std::move(ssl)) {}
  int fd() const override { return fd_.get(); }
  size_t Read(void* buffer, size_t size) override {
    size_t n = 0;
    return SSL_read_ex(ssl_.get(), buffer, size, &n) == 1 ? n : 0;
  }
  bool WriteAll(const void* bytes, size_t size) override {
    size_t n = 0;  // blocking and without partial writes: all of it or nothing
    return SSL_write_ex(ssl_.get(), bytes, size, &n) == 1;
  }
  // A program that makes the records in its own memory has to copy, which sendfile(2) would spare.
  bool SendFileAll(int file, size_t size) override {
    static char buffer[64 * 1024];
    for (size_t done = 0; done < size;) {
      const ssize_t n =
          pread(file, buffer, std::min(sizeof(buffer), size - done), static_cast<off_t>(done));
      if (n <= 0 || !WriteAll(buffer, static_cast<size_t>(n))) return false;
      done += static_cast<size_t>(n);
    }
    return true;
  }
  void End() override { SSL_shutdown(ssl_.get()); }

 private:
  UniqueFd fd_;
  SslPtr ssl_;
};

class KtlsStream : public FdStream {
 public:
  explicit KtlsStream(UniqueFd fd) : FdStream(std::move(fd)) {}
  void End() override { (void)SendAlertRecord(fd(), SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY); }
};

// The secrets of the one handshake that is under way.
Tls13Secrets* g_secrets = nullptr;

SecretBytes FromHex(std::string_view hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return SecretBytes(bytes);
}

void TakeSecret(const SSL* /*ssl*/, const char* line) {
  const std::string_view text(line);
  const std::string_view secret = text.substr(text.rfind(' ') + 1);
  if (text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) g_secrets->client = FromHex(secret);
  if (text.starts_with("SERVER_TRAFFIC_SECRET_0 ")) g_secrets->server = FromHex(secret);
}

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "bench-tls-server: %s\n", what);
  exit(1);
}

SslCtxPtr MakeContext(const char* chain, const char* key, bool ktls) {
  SslCtxPtr context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  // A server with many connections sets this mode.
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  if (SSL_CTX_use_certificate_chain_file(context.get(), chain) != 1) Die("no certificate chain");
  if (SSL_CTX_use_PrivateKey_file(context.get(), key, SSL_FILETYPE_PEM) != 1) Die("no key");
  if (ktls) SSL_CTX_set_keylog_callback(context.get(), &TakeSecret);
  return context;
}

UniqueFd Accept(int listener) {
  UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) return fd;
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

SslPtr Handshake(SSL_CTX* context, int fd) {
  SslPtr ssl(SSL_new(context));
  SSL_set_fd(ssl.get(), fd);
  if (SSL_accept(ssl.get()) != 1) return nullptr;
  return ssl;
}

std::unique_ptr<Stream> TakeOpenssl(SSL_CTX* context, int listener) {
  UniqueFd fd = Accept(listener);
  if (!fd) return nullptr;
  SslPtr ssl = Handshake(context, fd.get());
  if (!ssl) return nullptr;
  return std::make_unique<OpensslStream>(std::move(fd), std::move(ssl));
}

std::unique_ptr<Stream> TakeKtls(SSL_CTX* context, int listener) {
  UniqueFd fd = Accept(listener);
  if (!fd || !EnableUlp(fd.get()).ok()) return nullptr;
  Tls13Secrets secrets;
  g_secrets = &secrets;
  const SslPtr ssl = Handshake(context, fd.get());
  if (!ssl) return nullptr;
  const uint64_t tickets = SSL_session_reused(ssl.get()) == 1 ? 1 : 2;
  auto keys = DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", secrets, tickets);
  if (!keys.ok()) return nullptr;
  KtlsSocket::Outcome outcome = KtlsSocket::Install(std::move(fd), *keys);
  if (outcome.result != InstallResult::kOk) Die("the kernel refused the keys");
  return std::make_unique<KtlsStream>(std::move(*outcome.socket).Release());
}

int Run(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (argc != 5 || (mode != "openssl" && mode != "ktls")) {
    fprintf(stderr, "usage: bench-tls-server openssl|ktls PORT CHAIN KEY\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const bool ktls = mode == "ktls";
  const SslCtxPtr context = MakeContext(argv[3], argv[4], ktls);
  RaiseDescriptorLimit();
  const int listener = Listen(static_cast<uint16_t>(atoi(argv[2])));
  ServeForever(listener, [&] {
    return ktls ? TakeKtls(context.get(), listener) : TakeOpenssl(context.get(), listener);
  });
}

}  // namespace
}  // namespace tlsbroker::bench

int main(int argc, char** argv) { return tlsbroker::bench::Run(argc, argv); }
