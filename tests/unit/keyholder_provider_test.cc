// TLS handshakes in memory: a server whose keys are behind the provider "tlsbroker", with the sign
// service of the keyholder at the other end of the channel, against a client of plain OpenSSL that
// verifies what the keyholder signed.

#include "broker/handshaker/keyholder_provider.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ssl.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "broker/handshaker/keyholder_client.h"
#include "broker/keyholder/sign_service.h"
#include "protocol/channel.h"
#include "tests/testlib/certificate.h"

namespace tlsbroker {
namespace {

using testlib::Identity;

constexpr uint16_t kCertificateId = 7;

// The sign service in a thread of its own, with one key and one channel.
class Service {
 public:
  explicit Service(const Identity& identity) {
    EVP_PKEY_up_ref(identity.key.get());
    auto key = PrivateKey::Create(EvpPkeyPtr(identity.key.get()), identity.certificate.get());
    EXPECT_TRUE(key.ok()) << key.status();
    EXPECT_TRUE(service_.AddKey(kCertificateId, *std::move(key)));
    auto [ours, theirs] = channel::MakePair();
    channel_ = std::move(ours);
    EXPECT_TRUE(service_.AddChannel(0, {kCertificateId}, std::move(theirs)));
    std::tie(control_, control_theirs_) = channel::MakePair();
    thread_ = std::thread([this] { EXPECT_TRUE(service_.Run(control_theirs_.get()).ok()); });
  }
  ~Service() { Stop(); }

  void Stop() {
    control_.Reset();
    if (thread_.joinable()) thread_.join();
  }
  UniqueFd TakeChannel() { return std::move(channel_); }
  // Only after Stop.
  const SignService::Counters& counters() const { return service_.counters(0); }

 private:
  SignService service_;
  UniqueFd channel_, control_, control_theirs_;
  std::thread thread_;
};

// What the handshaker has: a library context of its own with our provider.
struct Handshaker {
  explicit Handshaker(UniqueFd channel) : library(OSSL_LIB_CTX_new()), client(std::move(channel)) {
    auto loaded = KeyholderProvider::Load(library.get(), &client);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    provider = *std::move(loaded);
  }
  OsslLibCtxPtr library;
  KeyholderClient client;
  std::unique_ptr<KeyholderProvider> provider;
};

std::string ProviderOf(const EVP_PKEY* key) {
  return OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key));
}

SslCtxPtr ServerContext(Handshaker& handshaker, const Identity& identity) {
  SslCtxPtr context(SSL_CTX_new_ex(handshaker.library.get(), nullptr, TLS_server_method()));
  auto key = handshaker.provider->MakeKey(kCertificateId, identity.certificate.get());
  EXPECT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(ProviderOf(key->get()), "tlsbroker");
  EXPECT_EQ(SSL_CTX_use_cert_and_key(context.get(), identity.certificate.get(), key->get(), nullptr,
                                     /*override=*/1),
            1);
  return context;
}

// A client that trusts exactly this certificate.
SslCtxPtr ClientContext(const Identity& identity, int version) {
  SslCtxPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), identity.certificate.get());
  return context;
}

struct Handshake {
  Handshake(SSL_CTX* server_context, SSL_CTX* client_context)
      : server(SSL_new(server_context)), client(SSL_new(client_context)) {
    BIO *server_bio = nullptr, *client_bio = nullptr;
    BIO_new_bio_pair(&server_bio, 0, &client_bio, 0);
    SSL_set_bio(server.get(), server_bio, server_bio);
    SSL_set_bio(client.get(), client_bio, client_bio);
    SSL_set_accept_state(server.get());
    SSL_set_connect_state(client.get());
  }
  // True if both ends have finished; the error queue says why not.
  bool Run() {
    ERR_clear_error();
    for (int round = 0; round < 10; ++round) {
      const bool client_done = SSL_do_handshake(client.get()) == 1;
      const bool server_done = SSL_do_handshake(server.get()) == 1;
      if (client_done && server_done) return true;
    }
    return false;
  }
  SslPtr server, client;
};

std::string FirstError() {
  const absl::Status status = OpensslStatus("");
  return std::string(status.message());
}

// --- Every version with every key ---

struct Case {
  const char* key;
  int version;
  int peer_signature_nid;  // what SSL_get_peer_signature_type_nid says at the client
};

class Handshakes : public testing::TestWithParam<Case> {};

TEST_P(Handshakes, ClientVerifiesTheKeyholdersSignature) {
  const Case& param = GetParam();
  const Identity identity(param.key);
  Service service(identity);
  Handshaker handshaker(service.TakeChannel());
  const SslCtxPtr server = ServerContext(handshaker, identity);
  const SslCtxPtr client = ClientContext(identity, param.version);
  Handshake handshake(server.get(), client.get());
  ASSERT_TRUE(handshake.Run()) << FirstError();
  EXPECT_EQ(SSL_version(handshake.client.get()), param.version);
  EXPECT_EQ(SSL_get_verify_result(handshake.client.get()), X509_V_OK);
  int nid = NID_undef;
  EXPECT_EQ(SSL_get_peer_signature_type_nid(handshake.client.get(), &nid), 1);
  EXPECT_EQ(nid, param.peer_signature_nid);
  service.Stop();
  EXPECT_EQ(service.counters().signatures, 1u);
}

INSTANTIATE_TEST_SUITE_P(All, Handshakes,
                         testing::Values(Case{"P-256", TLS1_3_VERSION, EVP_PKEY_EC},
                                         Case{"P-384", TLS1_3_VERSION, EVP_PKEY_EC},
                                         Case{"RSA 2048", TLS1_3_VERSION, EVP_PKEY_RSA_PSS},
                                         Case{"RSA-PSS 2048", TLS1_3_VERSION, EVP_PKEY_RSA_PSS},
                                         Case{"ED25519", TLS1_3_VERSION, EVP_PKEY_ED25519},
                                         Case{"P-256", TLS1_2_VERSION, EVP_PKEY_EC},
                                         Case{"P-384", TLS1_2_VERSION, EVP_PKEY_EC},
                                         Case{"RSA 2048", TLS1_2_VERSION, EVP_PKEY_RSA_PSS},
                                         Case{"RSA-PSS 2048", TLS1_2_VERSION, EVP_PKEY_RSA_PSS},
                                         Case{"ED25519", TLS1_2_VERSION, EVP_PKEY_ED25519}),
                         [](const auto& test) {
                           std::string name = test.param.key;
                           std::erase_if(name, [](char c) { return c == '-' || c == ' '; });
                           return name + (test.param.version == TLS1_3_VERSION ? "Tls13" : "Tls12");
                         });

}  // namespace
}  // namespace tlsbroker
