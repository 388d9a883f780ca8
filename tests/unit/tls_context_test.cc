// SPDX-License-Identifier: Apache-2.0
// How the TLS side of a service answers a ClientHello; two OpenSSL objects talk to each other.

#include "broker/handshaker/tls_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "tests/unit/handshaker.h"

namespace tlsbroker {
namespace {

using testlib::Loaded;

// A client of OpenSSL that verifies nothing.
struct Client {
  Client() : context(SSL_CTX_new(TLS_client_method())) {}
  void Offers(std::string_view alpn) {
    SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const uint8_t*>(alpn.data()),
                            static_cast<unsigned>(alpn.size()));
  }
  SslCtxPtr context;
  std::string name;
  SSL_SESSION* resumes = nullptr;
};

class TlsContextTest : public testing::Test {
 protected:
  TlsContextTest() {
    supervision::TicketKey key;
    key.name.fill(1);
    supervision::TicketKeys keys;
    keys.keys.push_back(std::move(key));
    ticket_sealer_.Set(std::move(keys));
  }

  std::unique_ptr<TlsContext> Create() {
    auto created =
        TlsContext::Create(nullptr, service_, terms_, certificates_, capabilities_, ticket_sealer_);
    EXPECT_TRUE(created.ok()) << created.status();
    return *std::move(created);
  }

  // Makes a handshake over memory; returns the client's SSL object. Both objects live on.
  SSL* Handshake(const TlsContext& context, const Client& client) {
    server_ = *context.NewConnection(&secrets_);
    client_.reset(SSL_new(client.context.get()));
    SSL_set_connect_state(client_.get());
    if (!client.name.empty()) SSL_set_tlsext_host_name(client_.get(), client.name.c_str());
    if (client.resumes != nullptr) SSL_set_session(client_.get(), client.resumes);
    BIO *ours = nullptr, *theirs = nullptr;
    BIO_new_bio_pair(&ours, 0, &theirs, 0);
    SSL_set_bio(server_.get(), ours, ours);
    SSL_set_bio(client_.get(), theirs, theirs);
    for (int i = 0; i < 6; ++i) {
      SSL_do_handshake(client_.get());
      SSL_do_handshake(server_.get());
    }
    char nothing;
    SSL_read(client_.get(), &nothing, 1);  // reads the tickets
    // Without this SSL_free(3) would mark the session as cut off, and it could not be resumed.
    SSL_set_shutdown(client_.get(), SSL_SENT_SHUTDOWN);
    return client_.get();
  }
  bool Done() const { return SSL_is_init_finished(server_.get()) == 1; }

  const KtlsCapabilities capabilities_ = KtlsCapabilities::Probe(nullptr);
  TicketSealer ticket_sealer_;
  supervision::ServiceTerms terms_;
  std::string service_ = "s";
  std::vector<std::shared_ptr<const LoadedCertificate>> certificates_ = {
      Loaded("P-256", {"first.test"}), Loaded("P-256", {"second.test"})};
  Tls13Secrets secrets_;
  SslPtr server_, client_;
};

TEST_F(TlsContextTest, TheNameChoosesTheCertificate) {
  const auto context = Create();
  Client client;
  for (const auto& [name, answers] : {std::pair("second.test", 1), {"other.test", 0}, {"", 0}}) {
    client.name = name;
    const X509* shown = SSL_get0_peer_certificate(Handshake(*context, client));
    ASSERT_TRUE(Done()) << name;
    EXPECT_EQ(X509_cmp(shown, certificates_[static_cast<size_t>(answers)]->leaf.get()), 0) << name;
  }
}

TEST_F(TlsContextTest, OurOrderOfProtocols) {
  terms_.alpn = {"h2", "http/1.1"};
  const auto context = Create();
  Client client;
  client.Offers("\x08http/1.1\x02h2");
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(Handshake(*context, client), &chosen, &size);
  EXPECT_EQ(std::string(chosen, chosen + size), "h2");
}

TEST_F(TlsContextTest, NoCommonProtocol) {
  terms_.alpn = {"h2"};
  const auto context = Create();
  Client client;
  client.Offers(
      "\x03"
      "foo");
  Handshake(*context, client);
  EXPECT_FALSE(Done());
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL)
      << "RFC 7301 section 3.2";
  EXPECT_TRUE(Handshake(*context, Client()) != nullptr && Done()) << "who offers none is served";
}

TEST_F(TlsContextTest, ATicketIsForItsServiceAlone) {
  const auto mine = Create();
  service_ = "other";
  const auto others = Create();
  Client client;
  SSL* first = Handshake(*mine, client);
  ASSERT_TRUE(Done());
  const SslSessionPtr session(SSL_get1_session(first));
  ASSERT_EQ(SSL_SESSION_is_resumable(session.get()), 1);
  client.resumes = session.get();
  EXPECT_EQ(SSL_session_reused(Handshake(*mine, client)), 1);
  EXPECT_EQ(SSL_session_reused(Handshake(*others, client)), 0) << "although the keys are the same";
  EXPECT_TRUE(Done());
}

}  // namespace
}  // namespace tlsbroker
