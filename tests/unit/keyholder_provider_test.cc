// SPDX-License-Identifier: Apache-2.0
// TLS handshakes in memory: a server whose keys are behind the provider "tlsbroker", with the sign
// service of the keyholder at the other end of the channel, against a client of plain OpenSSL that
// verifies what the keyholder signed.

#include "broker/handshaker/keyholder_provider.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ssl.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/handshaker/keyholder_client.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/tls_policy.h"
#include "broker/keyholder/sign_service.h"
#include "protocol/channel.h"
#include "protocol/pipe.h"
#include "protocol/signing.h"
#include "protocol/tls_groups.h"
#include "tests/testlib/certificate.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker {
namespace {

using testlib::Identity;

constexpr uint16_t kCertificateId = 7;

// The sign service in a thread of its own, with one key and one channel.
class Service {
 public:
  explicit Service(const Identity& identity,
                   supervision::Policy policy = supervision::Policy::kIntermediate) {
    EVP_PKEY_up_ref(identity.key.get());
    auto key = PrivateKey::Create(EvpPkeyPtr(identity.key.get()), identity.certificate.get());
    EXPECT_TRUE(key.ok()) << key.status();
    EXPECT_TRUE(service_->AddKey(kCertificateId, *std::move(key)));
    signal(SIGPIPE, SIG_IGN);
    pipes::Pipe requests = pipes::Make();
    pipes::Pipe answers = pipes::Make();
    client_.emplace(std::move(requests.writing), std::move(answers.reading));
    EXPECT_TRUE(service_->AddChannel(0, {{kCertificateId}, {kCertificateId}, policy},
                                     {std::move(requests.reading), std::move(answers.writing)},
                                     RateLimit(1000, 1000)));
    std::tie(control_, control_theirs_) = channel::MakePair();
    thread_ = std::thread([this] {
      EXPECT_TRUE(service_
                      ->Run(
                          control_theirs_.get(), [] { return false; }, [] {})
                      .ok());
    });
  }
  ~Service() { Stop(); }

  void Stop() {
    control_.Reset();
    if (thread_.joinable()) thread_.join();
  }
  // Ends the service, and the channel with it.
  void Kill() {
    Stop();
    service_ = std::nullopt;
  }
  KeyholderClient TakeClient() { return *std::move(client_); }
  // May only be called after Stop.
  const SignService::Counters& counters() const { return service_->counters(0); }

 private:
  std::optional<SignService> service_{std::in_place};
  std::optional<KeyholderClient> client_;
  UniqueFd control_, control_theirs_;
  std::thread thread_;
};

// What the handshaker has: a library context of its own with our provider.
struct Handshaker {
  explicit Handshaker(KeyholderClient to_keyholder)
      : library(OSSL_LIB_CTX_new()), client(std::move(to_keyholder)) {
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
  // True if both ends have finished; else the error queue says why.
  bool Run() {
    ERR_clear_error();
    for (int round = 0; round < 10; ++round) {
      const int client_error = SSL_get_error(client.get(), SSL_do_handshake(client.get()));
      if (client_error == SSL_ERROR_SSL) return false;
      const int server_error = SSL_get_error(server.get(), SSL_do_handshake(server.get()));
      if (server_error == SSL_ERROR_SSL) return false;
      if (client_error == SSL_ERROR_NONE && server_error == SSL_ERROR_NONE) return true;
    }
    return false;
  }
  SslPtr server, client;
};

std::string AllErrors() {
  std::string text;
  const char* data = nullptr;
  int flags = 0;
  while (ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags) != 0) {
    text.append(data).append("\n");
  }
  return text;
}

std::string FirstError() {
  const absl::Status status = OpensslStatus("");
  return std::string(status.message());
}

// --- Every version with every key ---

struct Case {
  const char* key;
  int version;
  int peer_signature_nid;  // the expected SSL_get_peer_signature_type_nid at the client
};

class Handshakes : public NoFdLeaks, public testing::WithParamInterface<Case> {};

TEST_P(Handshakes, ClientVerifiesTheKeyholdersSignature) {
  const Case& param = GetParam();
  const Identity identity(param.key);
  Service service(identity);
  Handshaker handshaker(service.TakeClient());
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

INSTANTIATE_TEST_SUITE_P(
    All, Handshakes,
    testing::Values(Case{"P-256", TLS1_3_VERSION, EVP_PKEY_EC},
                    Case{"P-384", TLS1_3_VERSION, EVP_PKEY_EC},
                    Case{"RSA 2048", TLS1_3_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"RSA-PSS 2048", TLS1_3_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"RSA-PSS 2048 SHA384", TLS1_3_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"ED25519", TLS1_3_VERSION, EVP_PKEY_ED25519},
                    Case{"P-256", TLS1_2_VERSION, EVP_PKEY_EC},
                    Case{"P-384", TLS1_2_VERSION, EVP_PKEY_EC},
                    Case{"RSA 2048", TLS1_2_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"RSA-PSS 2048", TLS1_2_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"RSA-PSS 2048 SHA384", TLS1_2_VERSION, EVP_PKEY_RSA_PSS},
                    Case{"ED25519", TLS1_2_VERSION, EVP_PKEY_ED25519}),
    [](const auto& test) {
      std::string name = test.param.key;
      std::erase_if(name, [](char c) { return c == '-' || c == ' '; });
      return name + (test.param.version == TLS1_3_VERSION ? "Tls13" : "Tls12");
    });

// --- Other things that a server does with its keys ---

class Provider : public NoFdLeaks {
 protected:
  // One handshake of a server with this identity, in which the client offers only `algorithms`.
  // True if it succeeded.
  bool Connect(int version, const char* algorithms, const char* groups = nullptr) {
    const SslCtxPtr server = ServerContext(handshaker_, identity_);
    const SslCtxPtr client = ClientContext(identity_, version);
    SSL_CTX_set_security_level(server.get(), 0);
    SSL_CTX_set_security_level(client.get(), 0);
    EXPECT_EQ(SSL_CTX_set1_sigalgs_list(client.get(), algorithms), 1);
    if (groups != nullptr) {
      EXPECT_EQ(SSL_CTX_set1_groups_list(client.get(), groups), 1);
    }
    handshake_.emplace(server.get(), client.get());
    return handshake_->Run();
  }
  int SignatureDigest() {
    int nid = NID_undef;
    EXPECT_EQ(SSL_get_peer_signature_nid(handshake_->client.get(), &nid), 1);
    return nid;
  }
  int SignatureType() {
    int nid = NID_undef;
    EXPECT_EQ(SSL_get_peer_signature_type_nid(handshake_->client.get(), &nid), 1);
    return nid;
  }

  explicit Provider(const char* kind = "P-256",
                    supervision::Policy policy = supervision::Policy::kIntermediate)
      : identity_(kind), service_(identity_, policy) {}
  const Identity identity_;
  Service service_;
  Handshaker handshaker_{service_.TakeClient()};
  std::optional<Handshake> handshake_;
};

class RsaProvider : public Provider {
 protected:
  explicit RsaProvider(supervision::Policy policy = supervision::Policy::kIntermediate)
      : Provider("RSA 2048", policy) {}
};

TEST_F(RsaProvider, SignsWithEachSchemeOfRsa) {
  for (const auto& [algorithms, digest] :
       {std::pair("RSA+SHA256", NID_sha256), std::pair("RSA+SHA384", NID_sha384),
        std::pair("RSA+SHA512", NID_sha512)}) {
    ASSERT_TRUE(Connect(TLS1_2_VERSION, algorithms)) << algorithms << FirstError();
    EXPECT_EQ(SignatureType(), EVP_PKEY_RSA);
    EXPECT_EQ(SignatureDigest(), digest);
  }
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const auto& [algorithms, digest] : {std::pair("rsa_pss_rsae_sha256", NID_sha256),
                                             std::pair("rsa_pss_rsae_sha384", NID_sha384),
                                             std::pair("rsa_pss_rsae_sha512", NID_sha512)}) {
      ASSERT_TRUE(Connect(version, algorithms)) << algorithms << FirstError();
      EXPECT_EQ(SignatureType(), EVP_PKEY_RSA_PSS);
      EXPECT_EQ(SignatureDigest(), digest);
    }
  }
}

TEST_F(Provider, Tls12MixesHashAndCurve) {
  for (const auto& [algorithms, digest] :
       {std::pair("ECDSA+SHA256", NID_sha256), std::pair("ECDSA+SHA384", NID_sha384),
        std::pair("ECDSA+SHA512", NID_sha512)}) {
    ASSERT_TRUE(Connect(TLS1_2_VERSION, algorithms)) << algorithms << FirstError();
    EXPECT_EQ(SignatureDigest(), digest);
  }
}

TEST_F(Provider, OldHashesArePassedOver) {
  EXPECT_TRUE(Connect(TLS1_2_VERSION, "ECDSA+SHA1:ECDSA+SHA224:ECDSA+SHA256")) << FirstError();
  EXPECT_EQ(SignatureDigest(), NID_sha256);
  EXPECT_FALSE(Connect(TLS1_2_VERSION, "ECDSA+SHA1"));
  EXPECT_FALSE(Connect(TLS1_2_VERSION, "ECDSA+SHA224"));
  EXPECT_TRUE(Connect(TLS1_2_VERSION, "ECDSA+SHA256")) << FirstError();
}

TEST_F(Provider, EverythingElseIsLeftToTheDefaultProvider) {
  for (const char* type : {"EC", "RSA", "RSA-PSS", "ED25519", "X25519"}) {
    EVP_KEYMGMT* management = EVP_KEYMGMT_fetch(handshaker_.library.get(), type, nullptr);
    ASSERT_NE(management, nullptr);
    EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_KEYMGMT_get0_provider(management)), "default");
    EVP_KEYMGMT_free(management);
  }
  for (const char* type : {"ECDSA", "RSA", "ED25519"}) {
    EVP_SIGNATURE* signature = EVP_SIGNATURE_fetch(handshaker_.library.get(), type, nullptr);
    ASSERT_NE(signature, nullptr);
    EXPECT_STREQ(OSSL_PROVIDER_get0_name(EVP_SIGNATURE_get0_provider(signature)), "default");
    EVP_SIGNATURE_free(signature);
  }
  for (const char* group : {"P-256", "P-384:P-256", "X25519:P-256"}) {
    ASSERT_TRUE(Connect(TLS1_2_VERSION, "ECDSA+SHA256", group)) << group << FirstError();
    ASSERT_TRUE(Connect(TLS1_3_VERSION, "ECDSA+SHA256", group)) << group << FirstError();
    // The client's share, made with the parameters of the server's ephemeral key.
    EVP_PKEY* ephemeral = nullptr;
    ASSERT_EQ(SSL_get_peer_tmp_key(handshake_->server.get(), &ephemeral), 1);
    EXPECT_EQ(ProviderOf(EvpPkeyPtr(ephemeral).get()), "default");
  }
}

TEST_F(Provider, ClientCertificatesAreVerifiedByTheDefaultProvider) {
  for (const char* kind : {"P-256", "RSA 2048", "ED25519"}) {
    const Identity user(kind);
    const SslCtxPtr server = ServerContext(handshaker_, identity_);
    SSL_CTX_set_verify(server.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(server.get()), user.certificate.get());
    const SslCtxPtr client = ClientContext(identity_, TLS1_3_VERSION);
    SSL_CTX_use_cert_and_key(client.get(), user.certificate.get(), user.key.get(), nullptr, 1);
    Handshake handshake(server.get(), client.get());
    EXPECT_TRUE(handshake.Run()) << kind << FirstError();
  }
}

// --- What a key is, and is not ---

TEST_F(Provider, KeysCompareAcrossProviders) {
  const Identity other("P-256");
  const auto key = handshaker_.provider->MakeKey(kCertificateId, identity_.certificate.get());
  ASSERT_TRUE(key.ok()) << key.status();
  EVP_PKEY* plain = X509_get0_pubkey(identity_.certificate.get());
  EVP_PKEY* plain_other = X509_get0_pubkey(other.certificate.get());
  EXPECT_EQ(EVP_PKEY_eq(key->get(), plain), 1);
  EXPECT_EQ(EVP_PKEY_eq(plain, key->get()), 1);
  EXPECT_NE(EVP_PKEY_eq(key->get(), plain_other), 1);
  EXPECT_NE(EVP_PKEY_eq(plain_other, key->get()), 1);
  EXPECT_EQ(X509_check_private_key(identity_.certificate.get(), key->get()), 1);
  EXPECT_NE(X509_check_private_key(other.certificate.get(), key->get()), 1);
  EXPECT_EQ(EVP_PKEY_get_bits(key->get()), 256);
  EXPECT_EQ(EVP_PKEY_get_security_bits(key->get()), 128);

  const SslCtxPtr context(SSL_CTX_new_ex(handshaker_.library.get(), nullptr, TLS_server_method()));
  ASSERT_EQ(SSL_CTX_use_certificate(context.get(), identity_.certificate.get()), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(context.get(), key->get()), 1);
  EXPECT_EQ(SSL_CTX_check_private_key(context.get()), 1);
}

TEST_F(Provider, NothingPrivateComesOut) {
  const auto key = handshaker_.provider->MakeKey(kCertificateId, identity_.certificate.get());
  ASSERT_TRUE(key.ok()) << key.status();
  BIGNUM* number = nullptr;
  EXPECT_EQ(EVP_PKEY_get_bn_param(key->get(), OSSL_PKEY_PARAM_PRIV_KEY, &number), 0);
  OSSL_PARAM* params = nullptr;
  EXPECT_EQ(EVP_PKEY_todata(key->get(), EVP_PKEY_KEYPAIR, &params), 0);
  const BioPtr bio(BIO_new(BIO_s_mem()));
  EXPECT_EQ(
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key->get(), nullptr, nullptr, 0, nullptr, nullptr),
      0);
}

TEST_F(Provider, UnsupportedCertificatesGetNoKey) {
  const Identity ed448("ED448");
  EXPECT_FALSE(handshaker_.provider->MakeKey(1, ed448.certificate.get()).ok());
}

TEST_F(Provider, EcdsaAndRsaSideBySide) {
  const Identity rsa("RSA 2048");
  Service rsa_service(rsa);
  Handshaker rsa_handshaker(rsa_service.TakeClient());
  // Both keys are in one context, as in a server for old and new clients.
  const SslCtxPtr server = ServerContext(handshaker_, identity_);
  const auto key = rsa_handshaker.provider->MakeKey(kCertificateId, rsa.certificate.get());
  ASSERT_TRUE(key.ok());
  ASSERT_EQ(SSL_CTX_use_cert_and_key(server.get(), rsa.certificate.get(), key->get(), nullptr, 1),
            1);
  for (const Identity* expected : {&identity_, &rsa}) {
    const SslCtxPtr client = ClientContext(*expected, TLS1_3_VERSION);
    SSL_CTX_set1_sigalgs_list(client.get(),
                              expected == &rsa ? "rsa_pss_rsae_sha256" : "ECDSA+SHA256");
    Handshake handshake(server.get(), client.get());
    EXPECT_TRUE(handshake.Run()) << FirstError();
  }
}

// --- When the keyholder does not sign ---

TEST_F(Provider, ARefusalFailsTheHandshakeOnly) {
  const SslCtxPtr client = ClientContext(identity_, TLS1_3_VERSION);
  SslCtxPtr server(SSL_CTX_new_ex(handshaker_.library.get(), nullptr, TLS_server_method()));
  const auto key = handshaker_.provider->MakeKey(99, identity_.certificate.get());
  ASSERT_TRUE(key.ok());
  SSL_CTX_use_cert_and_key(server.get(), identity_.certificate.get(), key->get(), nullptr, 1);
  Handshake handshake(server.get(), client.get());
  EXPECT_FALSE(handshake.Run());
  EXPECT_NE(AllErrors().find("the keyholder refused: certificate"), std::string::npos);
  EXPECT_FALSE(handshaker_.client.broken());
  EXPECT_TRUE(Connect(TLS1_3_VERSION, "ECDSA+SHA256")) << FirstError();
}

TEST_F(Provider, WithoutKeyholderTheClientIsBroken) {
  const SslCtxPtr client = ClientContext(identity_, TLS1_3_VERSION);
  const SslCtxPtr server = ServerContext(handshaker_, identity_);
  service_.Kill();
  EXPECT_FALSE(handshaker_.client.broken());
  Handshake handshake(server.get(), client.get());
  EXPECT_FALSE(handshake.Run());
  EXPECT_TRUE(handshaker_.client.broken());
  EXPECT_EQ(handshaker_.client.fd(), -1);
}

TEST_F(Provider, KeysMayOutliveIt) {
  const SslCtxPtr client = ClientContext(identity_, TLS1_3_VERSION);
  const SslCtxPtr server = ServerContext(handshaker_, identity_);
  handshaker_.provider.reset();
  Handshake handshake(server.get(), client.get());
  EXPECT_FALSE(handshake.Run());
}

// --- The groups that a service offers, and that the keyholder knows ---

// protocol/tls_groups.h holds for both ends: each of its groups works in both versions and for both
// sides, and no other group that OpenSSL has. The key is RSA, since in TLS 1.2 a group also has to
// be on the list for a certificate's own key.
class OfferedGroups : public RsaProvider {
 protected:
  using RsaProvider::RsaProvider;
  static constexpr const char* kAll[] = {
      "X25519",          "P-256",           "P-384",     "P-521", "X448",
      "brainpoolP256r1", "brainpoolP384r1", "ffdhe2048", "B-283", "secp256k1"};

  static bool IsOffered(std::string_view name) {
    return std::ranges::count(tls_groups::kOffered, name, &tls_groups::Group::name) > 0;
  }
  void SetPolicyOf(const SslCtxPtr& context, supervision::Policy policy) {
    const absl::Status status =
        SetPolicy(context.get(), "test", policy, supervision::KtlsMode::kNever, capabilities_);
    EXPECT_TRUE(status.ok()) << status;
  }
  // Sets up a foreign peer, which allows one group and everything else.
  static void Use(const SslCtxPtr& peer, const char* group) {
    SSL_CTX_set_security_level(peer.get(), 0);
    EXPECT_EQ(SSL_CTX_set1_groups_list(peer.get(), group), 1) << group;
  }

  const KtlsCapabilities capabilities_ = KtlsCapabilities::Probe(handshaker_.library.get());
};

TEST_F(OfferedGroups, AreThoseThatAServiceUses) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const char* group : kAll) {
      const SslCtxPtr server = ServerContext(handshaker_, identity_);
      SetPolicyOf(server, supervision::Policy::kIntermediate);
      const SslCtxPtr client = ClientContext(identity_, version);
      Use(client, group);
      Handshake handshake(server.get(), client.get());
      EXPECT_EQ(handshake.Run(), IsOffered(group)) << group << " " << AllErrors();
    }
  }
  service_.Stop();
  EXPECT_EQ(service_.counters().signatures, 2 * std::size(tls_groups::kOffered));
  EXPECT_EQ(service_.counters().refused[static_cast<size_t>(signing::Reason::kContent)], 0u);
}

// The client has a certificate: with TLS 1.2 the keyholder then gets all messages before
// CertificateVerify.
TEST_F(OfferedGroups, AreThoseThatAClientUses) {
  const Identity other("RSA 2048");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const char* group : kAll) {
      const SslCtxPtr server(SSL_CTX_new(TLS_server_method()));
      SSL_CTX_use_cert_and_key(server.get(), other.certificate.get(), other.key.get(), nullptr, 1);
      SSL_CTX_set_verify(server.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
      X509_STORE_add_cert(SSL_CTX_get_cert_store(server.get()), identity_.certificate.get());
      Use(server, group);
      SSL_CTX_set_max_proto_version(server.get(), version);
      const SslCtxPtr client(
          SSL_CTX_new_ex(handshaker_.library.get(), nullptr, TLS_client_method()));
      SetPolicyOf(client, supervision::Policy::kIntermediate);
      const auto key = handshaker_.provider->MakeKey(kCertificateId, identity_.certificate.get());
      ASSERT_TRUE(key.ok()) << key.status();
      SSL_CTX_use_cert_and_key(client.get(), identity_.certificate.get(), key->get(), nullptr, 1);
      Handshake handshake(server.get(), client.get());
      EXPECT_EQ(handshake.Run(), IsOffered(group)) << group << " " << AllErrors();
    }
  }
  service_.Stop();
  EXPECT_EQ(service_.counters().signatures, 2 * std::size(tls_groups::kOffered));
  EXPECT_EQ(service_.counters().refused[static_cast<size_t>(signing::Reason::kContent)], 0u);
}

TEST_F(OfferedGroups, ModernIsTls13Alone) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const SslCtxPtr server = ServerContext(handshaker_, identity_);
    SetPolicyOf(server, supervision::Policy::kModern);
    const SslCtxPtr client = ClientContext(identity_, version);
    Handshake handshake(server.get(), client.get());
    EXPECT_EQ(handshake.Run(), version == TLS1_3_VERSION);
  }
}

class OfferedInTls12 : public OfferedGroups {
 protected:
  OfferedInTls12() : OfferedGroups(supervision::Policy::kTls12) {}
};

TEST_F(OfferedInTls12, IsTls12Alone) {
  for (const int version : {0, TLS1_2_VERSION, TLS1_3_VERSION}) {
    const SslCtxPtr server = ServerContext(handshaker_, identity_);
    SetPolicyOf(server, supervision::Policy::kTls12);
    const SslCtxPtr client = ClientContext(identity_, version);
    Handshake handshake(server.get(), client.get());
    EXPECT_EQ(handshake.Run(), version != TLS1_3_VERSION) << AllErrors();
  }
}

// --- The client, against a keyholder that answers nonsense ---

class Client : public NoFdLeaks {
 protected:
  static absl::Status StatusWith(const std::vector<uint8_t>& answer,
                                 const std::vector<uint8_t>& content = std::vector<uint8_t>(130)) {
    pipes::Pipe requests = pipes::Make();
    pipes::Pipe answers = pipes::Make();
    KeyholderClient client(std::move(requests.writing), std::move(answers.reading));
    if (!answer.empty()) pipes::Send(answers.writing.get(), answer);
    const absl::Status status = client.Sign(1, signing::schemes::kEd25519, content).status();
    EXPECT_EQ(client.broken(), !status.ok());
    return status;
  }
};

TEST_F(Client, TakesOnlyTheAnswerToItsRequest) {
  const auto answer = [](uint32_t id) {
    return signing::Encode(signing::Reply(signing::Signature{id, {1, 2, 3}}));
  };
  EXPECT_TRUE(StatusWith(answer(1)).ok());
  EXPECT_EQ(StatusWith(answer(0)).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(StatusWith(answer(2)).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(StatusWith({2, 0}).code(), absl::StatusCode::kInternal);
}

TEST_F(Client, GivesUpOnASilentKeyholder) {
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(StatusWith({}).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(std::chrono::steady_clock::now() - before, KeyholderClient::kTimeout);
}

TEST_F(Client, GivesUpOnAKeyholderThatReadsNothing) {
  pipes::Pipe requests = pipes::Make();
  pipes::Pipe answers = pipes::Make();
  const std::vector<uint8_t> filling(60 * 1024);
  std::span<const uint8_t> rest = filling;
  ASSERT_EQ(pipes::Write(requests.writing.get(), rest), pipes::Result::kOk);
  KeyholderClient client(std::move(requests.writing), std::move(answers.reading));
  const std::vector<uint8_t> content(signing::kMaxContent);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(client.Sign(1, signing::schemes::kEd25519, content).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(std::chrono::steady_clock::now() - before, KeyholderClient::kTimeout);
  EXPECT_TRUE(client.broken());
}

}  // namespace
}  // namespace tlsbroker
