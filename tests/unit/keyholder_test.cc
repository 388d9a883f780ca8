// SPDX-License-Identifier: Apache-2.0
// The keyholder as a program of its own: what it says about keys that do not work, what it signs,
// and what it gives to a handshaker that was taken over.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/rsa.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/handshaker/keyholder_client.h"
#include "broker/keyholder/sign_service.h"
#include "protocol/channel.h"
#include "protocol/pipe.h"
#include "protocol/signing.h"
#include "protocol/tls_groups.h"
#include "tests/testlib/certificate.h"
#include "tests/testlib/keyholder_process.h"
#include "tests/testlib/signed_contents.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker {
namespace {

using std::string_literals::operator""s;
using signing::Reason;
using supervision::Failed;
using testing::AllOf;
using testing::HasSubstr;
using testlib::Identity;
using testlib::KeyholderProcess;
using testlib::Pem;
using Octets = std::vector<uint8_t>;
namespace schemes = signing::schemes;

Octets Bytes(const std::string& text) { return testlib::ToOctets(text); }

Octets Tls13Content() { return Bytes(testlib::Tls13("server")); }
Octets Tls13ClientContent() { return Bytes(testlib::Tls13("client")); }
Octets Tls12Content() { return Bytes(testlib::Tls12()); }
Octets Tls12ClientContent() { return Bytes(testlib::Tls12Transcript().text()); }

// Reads the next message from a pipe, or says why there is none.
pipes::Result Next(pipes::Reader& reader, int pipe) {
  pipes::Result result;
  while ((result = reader.Next(pipe)) == pipes::Result::kWouldBlock) {
    pollfd polled{pipe, POLLIN, 0};
    if (poll(&polled, 1, 20000) != 1) break;
  }
  return result;
}

// Writes all of `bytes`, as they are; false if nobody reads them any more.
bool WriteAll(int pipe, std::span<const uint8_t> bytes) {
  pipes::Result result;
  while ((result = pipes::Write(pipe, bytes)) == pipes::Result::kWouldBlock) {
    pollfd polled{pipe, POLLOUT, 0};
    if (poll(&polled, 1, 20000) != 1) break;
  }
  return result == pipes::Result::kOk;
}

// --- Keys and certificates that do not work ---

class KeyholderLoading : public NoFdLeaks {
 protected:
  // What the keyholder reports about this chain and key.
  static Failed FailureOf(const std::string& chain_pem, const std::string& key_file) {
    KeyholderProcess keyholder;
    keyholder.SendConfinement();
    keyholder.SendCertificate(5, chain_pem, key_file);
    return FailureOf(keyholder);
  }
  static Failed FailureOf(KeyholderProcess& keyholder) {
    const auto answer = keyholder.Start();
    EXPECT_EQ(keyholder.Wait(), 1) << keyholder.Log();
    if (!answer || !std::holds_alternative<Failed>(*answer)) {
      ADD_FAILURE() << "no Failed: " << keyholder.Log();
      return {};
    }
    return std::get<Failed>(*answer);
  }
  static void ExpectKeyFailure(const std::string& chain_pem, const std::string& key_file,
                               const testing::Matcher<std::string>& text) {
    const Failed failed = FailureOf(chain_pem, key_file);
    EXPECT_EQ(failed.subject, Failed::Subject::kCertificateKey) << failed.text;
    EXPECT_EQ(failed.id, 5);
    EXPECT_THAT(failed.text, text);
    EXPECT_THAT(failed.text, testing::Not(HasSubstr("\n")));
  }
  static void ExpectChainFailure(const std::string& chain_pem, const std::string& key_file,
                                 const testing::Matcher<std::string>& text) {
    const Failed failed = FailureOf(chain_pem, key_file);
    EXPECT_EQ(failed.subject, Failed::Subject::kCertificateChain) << failed.text;
    EXPECT_EQ(failed.id, 5);
    EXPECT_THAT(failed.text, text);
  }
};

TEST_F(KeyholderLoading, KeyOfAnotherCertificate) {
  const Identity rsa("RSA 2048");
  const Identity ec("P-256");
  const Identity other_ec("P-256");
  ExpectKeyFailure(Pem(rsa.certificate.get()), Pem(ec.key.get()),
                   "the private key (EC P-256) does not match the certificate (RSA 2048)");
  ExpectKeyFailure(Pem(ec.certificate.get()), Pem(other_ec.key.get()),
                   "the private key (EC P-256) does not match the certificate (EC P-256)");
}

TEST_F(KeyholderLoading, KeysOfUnsupportedTypes) {
  const Identity short_rsa("RSA 1024");
  ExpectKeyFailure(Pem(short_rsa.certificate.get()), Pem(short_rsa.key.get()),
                   "the private key (RSA 1024) is too short: at least 2048 bits are needed");
  for (const auto& [kind, name] : {std::pair("P-521", "EC P-521"), std::pair("ED448", "ED448")}) {
    const Identity identity(kind);
    ExpectKeyFailure(Pem(identity.certificate.get()), Pem(identity.key.get()),
                     AllOf(HasSubstr("("s + name + ")"), HasSubstr("no supported type"),
                           HasSubstr("EC P-256, EC P-384 and Ed25519")));
  }
}

// "BEGIN RSA PRIVATE KEY" with a Proc-Type header, as older tools write it.
std::string OldEncryptedPem(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  char passphrase[] = "secret";
  PEM_write_bio_PrivateKey_traditional(bio.get(), key, EVP_aes_128_cbc(), nullptr, 0, nullptr,
                                       passphrase);
  return testlib::TakeText(bio);
}

std::string EncryptedDer(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  char passphrase[] = "secret";
  i2d_PKCS8PrivateKey_bio(bio.get(), key, EVP_aes_256_cbc(), nullptr, 0, nullptr, passphrase);
  return testlib::TakeText(bio);
}

TEST_F(KeyholderLoading, EncryptedKeysAreNotAskedFor) {
  const Identity ec("P-256");
  const std::string chain = Pem(ec.certificate.get());
  const auto explained = AllOf(HasSubstr("encrypted"), HasSubstr("openssl pkey -in"));
  ExpectKeyFailure(chain, Pem(ec.key.get(), "secret"), explained);
  ExpectKeyFailure(chain, OldEncryptedPem(ec.key.get()), explained);
  ExpectKeyFailure(chain, EncryptedDer(ec.key.get()), explained);
}

TEST_F(KeyholderLoading, FilesWithoutAKey) {
  const Identity ec("P-256");
  const std::string chain = Pem(ec.certificate.get());
  const std::string key = Pem(ec.key.get());
  const auto explained = AllOf(HasSubstr("no private key found"), HasSubstr("PEM"));
  ExpectKeyFailure(chain, "", explained);
  ExpectKeyFailure(chain, "garbage\n", explained);
  ExpectKeyFailure(chain, std::string(1000, '\0'), explained);
  ExpectKeyFailure(chain, chain, explained);  // the certificate in place of its key
  ExpectKeyFailure(chain, key.substr(0, key.size() / 2), explained);
  ExpectKeyFailure(chain, std::string(1024 * 1024 + 1, '\n'), HasSubstr("larger than 1048576"));
}

TEST_F(KeyholderLoading, ChainsThatCannotBeUsed) {
  const Identity ec("P-256");
  const std::string chain = Pem(ec.certificate.get());
  const std::string key = Pem(ec.key.get());
  ExpectChainFailure("", key, HasSubstr("no certificate found"));
  ExpectChainFailure("garbage", key, HasSubstr("no certificate found"));
  ExpectChainFailure(chain + chain.substr(0, chain.size() / 2), key,
                     HasSubstr("certificate 2 of the chain cannot be read"));
  // Handshakers get the chain, so it must not contain a key.
  ExpectChainFailure(chain + key, key, HasSubstr("private key among the certificates"));
}

TEST_F(KeyholderLoading, KeyUris) {
  const Identity ec("P-256");
  const auto certificate = [&](const std::string& uri) {
    return supervision::Certificate{5, "test", Pem(ec.certificate.get()), uri, UniqueFd()};
  };
  for (const char* uri : {"file:/nonexistent/key.pem", "pkcs11:object=none", "unknown:x"}) {
    KeyholderProcess keyholder;
    keyholder.SendConfinement();
    keyholder.Send(certificate(uri));
    const Failed failed = FailureOf(keyholder);
    EXPECT_EQ(failed.subject, Failed::Subject::kCertificateKey);
    EXPECT_THAT(failed.text, HasSubstr("cannot be opened by its URI")) << uri;
  }
  const std::string path = testing::TempDir() + "/keyholder_test.key";
  std::ofstream(path) << Pem(ec.key.get());
  KeyholderProcess keyholder;
  keyholder.SendConfinement();
  keyholder.Send(certificate("file:" + path));
  const auto answer = keyholder.Start();
  std::filesystem::remove(path);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(std::holds_alternative<supervision::Ready>(*answer)) << keyholder.Log();
}

TEST_F(KeyholderLoading, SnapshotsThatContradictThemselves) {
  const Identity ec("P-256");
  KeyholderProcess twice;
  twice.SendConfinement();
  twice.SendCertificate(5, Pem(ec.certificate.get()), Pem(ec.key.get()));
  twice.SendCertificate(5, Pem(ec.certificate.get()), Pem(ec.key.get()));
  EXPECT_THAT(FailureOf(twice).text, HasSubstr("same id"));

  KeyholderProcess missing;
  missing.SendConfinement();
  missing.SendCertificate(5, Pem(ec.certificate.get()), Pem(ec.key.get()));
  const testlib::SigningEnds channel = missing.SendChannel(0, {5, 6});
  EXPECT_THAT(FailureOf(missing).text, HasSubstr("not there"));

  KeyholderProcess no_client;
  no_client.SendConfinement();
  no_client.SendCertificate(5, Pem(ec.certificate.get()), Pem(ec.key.get()));
  const testlib::SigningEnds other_channel = no_client.SendChannel(0, {5}, {6});
  EXPECT_THAT(FailureOf(no_client).text, HasSubstr("not there"));
}

// --- Life of the process ---

class KeyholderLife : public NoFdLeaks {};

TEST_F(KeyholderLife, EndsWithItsSupervisor) {
  KeyholderProcess keyholder;
  keyholder.SendConfinement();
  const testlib::SigningEnds channel = keyholder.SendChannel(0, {});
  ASSERT_TRUE(keyholder.Start()) << keyholder.Log();
  keyholder.CloseControl();
  EXPECT_EQ(keyholder.Wait(), 0) << keyholder.Log();

  KeyholderProcess before_start;
  before_start.CloseControl();
  EXPECT_EQ(before_start.Wait(), 1);
  EXPECT_THAT(before_start.Log(), HasSubstr("the supervisor is gone"));
}

TEST_F(KeyholderLife, MessagesOutOfOrderEndIt) {
  KeyholderProcess no_confinement;
  no_confinement.Send(supervision::Start{});
  EXPECT_EQ(no_confinement.Wait(), 1);

  KeyholderProcess two_confinements;
  two_confinements.SendConfinement();
  two_confinements.SendConfinement();
  EXPECT_EQ(two_confinements.Wait(), 1);

  KeyholderProcess drained;
  drained.SendConfinement();
  drained.Send(supervision::Drain{1});
  EXPECT_EQ(drained.Wait(), 1);

  KeyholderProcess after_start;
  after_start.SendConfinement();
  ASSERT_TRUE(after_start.Start());
  after_start.Send(supervision::Start{});
  EXPECT_EQ(after_start.Wait(), 1);
  EXPECT_THAT(after_start.Log(), HasSubstr("out of order"));
}

// The supervisor is trusted, but a mistake of it must not give the keyholder a channel that blocks.
TEST_F(KeyholderLife, ChecksItsDescriptors) {
  const auto expect_refused = [](UniqueFd requests, UniqueFd answers) {
    KeyholderProcess keyholder;
    keyholder.SendConfinement();
    keyholder.Send(supervision::HandshakerChannel{
        .max_signatures = 1, .requests = std::move(requests), .answers = std::move(answers)});
    EXPECT_EQ(keyholder.Wait(), 1);
    EXPECT_THAT(keyholder.Log(),
                HasSubstr("a descriptor from the supervisor is of the wrong kind"));
  };
  pipes::Pipe one = pipes::Make();
  pipes::Pipe other = pipes::Make();
  expect_refused(std::move(one.writing), std::move(other.reading));
  one = pipes::Make();
  other = pipes::Make();
  ASSERT_EQ(fcntl(one.reading.get(), F_SETFL, 0), 0);
  expect_refused(std::move(one.reading), std::move(other.writing));
  auto [socket, end] = channel::MakePair();
  expect_refused(std::move(socket), std::move(end));
}

TEST_F(KeyholderLife, RefusesToBeStartedByHand) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd other_end(pair[0]);
  KeyholderProcess stream_socket{UniqueFd(pair[1])};
  EXPECT_EQ(stream_socket.Wait(), 2);
  KeyholderProcess file{testlib::FileWith("")};
  EXPECT_EQ(file.Wait(), 2);
  EXPECT_THAT(file.Log(), HasSubstr("started by tlsbrokerd"));
}

// Looks at what ldd would show, without ldd.
TEST_F(KeyholderLife, LinksNoTlsLibrary) {
  FILE* out = popen("LD_TRACE_LOADED_OBJECTS=1 " TLSBROKER_KEYHOLDER, "r");
  ASSERT_NE(out, nullptr);
  std::string libraries(64 * 1024, '\0');
  libraries.resize(fread(libraries.data(), 1, libraries.size(), out));
  EXPECT_EQ(pclose(out), 0);
  EXPECT_THAT(libraries, HasSubstr("libcrypto.so"));
  EXPECT_THAT(libraries, testing::Not(HasSubstr("libssl.so")));
}

// --- Signing ---

bool Verify(EVP_PKEY* key, const char* digest, int padding, const Octets& content,
            const Octets& signature) {
  const EvpMdCtxPtr context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* key_context = nullptr;
  EVP_DigestVerifyInit_ex(context.get(), &key_context, digest, nullptr, nullptr, key, nullptr);
  if (padding != 0) EVP_PKEY_CTX_set_rsa_padding(key_context, padding);
  if (padding == RSA_PKCS1_PSS_PADDING) {
    EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, RSA_PSS_SALTLEN_DIGEST);
  }
  return EVP_DigestVerify(context.get(), signature.data(), signature.size(), content.data(),
                          content.size()) == 1;
}

// One keyholder with three certificates and two handshakers: each handshaker may use one
// certificate as a server, and the first one may use another one as a client.
class KeyholderSigning : public NoFdLeaks {
 protected:
  static constexpr uint16_t kEcId = 1;
  static constexpr uint16_t kRsaId = 2;
  static constexpr uint16_t kClientId = 4;

  void SetUp() override {
    keyholder_.SendConfinement();
    keyholder_.SendCertificate(kEcId, Pem(ec_.certificate.get()), Pem(ec_.key.get()));
    keyholder_.SendCertificate(kRsaId, Pem(rsa_.certificate.get()), Pem(rsa_.key.get()));
    keyholder_.SendCertificate(kClientId, Pem(client_.certificate.get()), Pem(client_.key.get()));
    channel_ = keyholder_.SendChannel(0, {kEcId}, {kClientId}, policy_);
    testlib::SigningEnds honest = keyholder_.SendChannel(1, {kRsaId});
    honest_.emplace(std::move(honest.requests), std::move(honest.answers));
    const auto answer = keyholder_.Start();
    ASSERT_TRUE(answer && std::holds_alternative<supervision::Ready>(*answer)) << keyholder_.Log();
  }
  void TearDown() override {
    ExpectServesHonest();
    keyholder_.CloseControl();
    EXPECT_EQ(keyholder_.Wait(), 0) << keyholder_.Log();
  }

  // The keyholder that is attacked still serves the other handshaker.
  void ExpectServesHonest() {
    const auto signature = honest_->Sign(kRsaId, schemes::kRsaPssRsaeSha256, Tls13Content());
    ASSERT_TRUE(signature.ok()) << signature.status() << keyholder_.Log();
    EXPECT_TRUE(
        Verify(rsa_.key.get(), "SHA256", RSA_PKCS1_PSS_PADDING, Tls13Content(), *signature));
  }
  // The next answer on the first channel; nullopt at the channel's end.
  std::optional<signing::Reply> NextReply() {
    const auto result = Next(reader_, channel_.answers.get());
    return result == pipes::Result::kOk ? signing::DecodeReply(reader_.message()) : std::nullopt;
  }
  void SendRaw(const Octets& message) { WriteRaw(pipes::Frame(message)); }
  void WriteRaw(const Octets& bytes) { EXPECT_TRUE(WriteAll(channel_.requests.get(), bytes)); }
  // Why the request was refused; nullopt if it was signed.
  std::optional<Reason> ReasonFor(uint16_t id, uint16_t scheme, const Octets& content) {
    SendRaw(signing::Encode(signing::Sign{9, id, scheme, content}));
    const auto reply = NextReply();
    EXPECT_TRUE(reply) << "the channel was closed";
    if (!reply || std::holds_alternative<signing::Signature>(*reply)) return std::nullopt;
    EXPECT_EQ(std::get<signing::Refused>(*reply).request_id, 9u);
    return std::get<signing::Refused>(*reply).reason;
  }
  void ExpectClosed() {
    EXPECT_EQ(Next(reader_, channel_.answers.get()), pipes::Result::kClosed);
    EXPECT_FALSE(WriteAll(channel_.requests.get(), Octets(1)));
  }

  const Identity ec_{"P-256"};
  const Identity rsa_{"RSA 2048"};
  const Identity client_{"P-256"};
  KeyholderProcess keyholder_;
  supervision::Policy policy_ = supervision::Policy::kIntermediate;
  testlib::SigningEnds channel_;
  pipes::Reader reader_{signing::kMaxReply};
  std::optional<KeyholderClient> honest_;
};

TEST_F(KeyholderSigning, SignsHandshakesOfBothVersions) {
  KeyholderClient client(std::move(channel_.requests), std::move(channel_.answers));
  const auto tls13 = client.Sign(kEcId, schemes::kEcdsaSecp256r1Sha256, Tls13Content());
  ASSERT_TRUE(tls13.ok()) << tls13.status();
  EXPECT_TRUE(Verify(ec_.key.get(), "SHA256", 0, Tls13Content(), *tls13));
  const auto tls12 = client.Sign(kEcId, schemes::kEcdsaSecp384r1Sha384, Tls12Content());
  ASSERT_TRUE(tls12.ok()) << tls12.status();
  EXPECT_TRUE(Verify(ec_.key.get(), "SHA384", 0, Tls12Content(), *tls12));
  const auto pkcs1 = honest_->Sign(kRsaId, schemes::kRsaPkcs1Sha512, Tls12Content());
  ASSERT_TRUE(pkcs1.ok()) << pkcs1.status();
  EXPECT_TRUE(Verify(rsa_.key.get(), "SHA512", RSA_PKCS1_PADDING, Tls12Content(), *pkcs1));
}

TEST_F(KeyholderSigning, RefusesTheCertificateOfAnotherService) {
  const Octets content = Tls13Content();
  EXPECT_EQ(ReasonFor(kRsaId, schemes::kRsaPssRsaeSha256, content), Reason::kCertificate);
  EXPECT_EQ(ReasonFor(3, schemes::kRsaPssRsaeSha256, content), Reason::kCertificate);
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), std::nullopt);
}

TEST_F(KeyholderSigning, IsNoSigningOracle) {
  for (const Octets& content : {Octets(32, 'h'), Octets(48, 'h'), Bytes("GET / HTTP/1.1\r\n"),
                                Octets(64, ' '), Octets(130, ' ')}) {
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
    EXPECT_EQ(ReasonFor(kClientId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
  }
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp384r1Sha384, Tls13Content()), Reason::kScheme);
  EXPECT_EQ(ReasonFor(kEcId, schemes::kRsaPssRsaeSha256, Tls13Content()), Reason::kScheme);
  EXPECT_EQ(ReasonFor(kEcId, 0x0203, Tls12Content()), Reason::kScheme);  // ECDSA with SHA-1
  EXPECT_EQ(ReasonFor(kEcId, 0, Tls13Content()), Reason::kScheme);
}

TEST_F(KeyholderSigning, SignsAsAClientOnlyWithClientCertificates) {
  for (const Octets& content : {Tls13ClientContent(), Tls12ClientContent()}) {
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
    EXPECT_EQ(ReasonFor(kClientId, schemes::kEcdsaSecp256r1Sha256, content), std::nullopt);
    EXPECT_FALSE(honest_->Sign(kClientId, schemes::kEcdsaSecp256r1Sha256, content).ok());
  }
  for (const Octets& content : {Tls13Content(), Tls12Content()}) {
    EXPECT_EQ(ReasonFor(kClientId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
  }
}

TEST_F(KeyholderSigning, SignsOnlyWithGroupsThatAreOffered) {
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, Bytes(testlib::Tls12(group.id))),
              std::nullopt)
        << group.name;
  }
  const Octets p521 =
      Bytes(testlib::Randoms() + testlib::Parameters(3, 25, 133, testlib::Point(133)));
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, p521), Reason::kContent);
}

TEST_F(KeyholderSigning, KeepsPkcs1OutOfTls13) {
  const auto refused = honest_->Sign(kRsaId, schemes::kRsaPkcs1Sha256, Tls13Content());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kPermissionDenied) << refused.status();
  EXPECT_FALSE(honest_->broken());
}

TEST_F(KeyholderSigning, MalformedRequestsCloseTheirChannel) {
  SendRaw({1, 2, 3});
  ExpectClosed();
}

TEST_F(KeyholderSigning, RepliesAreNotRequests) {
  SendRaw(signing::Encode(signing::Reply(signing::Refused{1, Reason::kRate})));
  ExpectClosed();
}

TEST_F(KeyholderSigning, LengthsOfNoMessageCloseTheirChannel) {
  WriteRaw({0, 0, 0, 0});
  ExpectClosed();
}

TEST_F(KeyholderSigning, OverlongRequestsCloseTheirChannel) {
  const auto size = static_cast<uint32_t>(signing::kMaxMessage + 1);
  WriteRaw({0, static_cast<uint8_t>(size >> 16), static_cast<uint8_t>(size >> 8),
            static_cast<uint8_t>(size)});
  ExpectClosed();
}

TEST_F(KeyholderSigning, RequestsInPiecesKeepNobodyWaiting) {
  const Octets frame =
      pipes::Frame(signing::Encode(signing::Sign{1, kEcId, 0x0403, Tls13Content()}));
  for (const uint8_t byte : frame) {
    ExpectServesHonest();
    WriteRaw({byte});
  }
  const auto reply = NextReply();
  EXPECT_TRUE(reply && std::holds_alternative<signing::Signature>(*reply));
}

// Many times what a pipe takes at once, and more than one page of the pipe.
TEST_F(KeyholderSigning, LongestContents) {
  testlib::Tls12Transcript transcript;
  const size_t rest = transcript.text().size() - transcript.certificate.size() + 4;
  transcript.certificate = testlib::Message(11, testlib::Filled(signing::kMaxContent - rest));
  const Octets content = Bytes(transcript.text());
  ASSERT_EQ(content.size(), signing::kMaxContent);
  KeyholderClient client(std::move(channel_.requests), std::move(channel_.answers));
  for (int i = 0; i < 20; ++i) {
    const auto signature = client.Sign(kClientId, schemes::kEcdsaSecp256r1Sha256, content);
    ASSERT_TRUE(signature.ok()) << signature.status() << keyholder_.Log();
    EXPECT_TRUE(Verify(client_.key.get(), "SHA256", 0, content, *signature));
  }
}

TEST_F(KeyholderSigning, WhoDoesNotReadIsClosed) {
  const Octets frame =
      pipes::Frame(signing::Encode(signing::Sign{1, kEcId, 0x0403, Tls13Content()}));
  // More than fits into the pipes of both directions.
  bool taken = true;
  for (int i = 0; i < 100000 && taken; ++i) taken = WriteAll(channel_.requests.get(), frame);
  EXPECT_FALSE(taken);
  EXPECT_THAT(keyholder_.Log(), HasSubstr("does not read its answers"));
}

TEST_F(KeyholderSigning, WhoIsGoneBeforeTheAnswerHarmsNobody) {
  channel_.answers.Reset();
  SendRaw(signing::Encode(signing::Sign{1, kEcId, 0x0403, Tls13Content()}));
  pollfd polled{channel_.requests.get(), 0, 0};
  EXPECT_EQ(poll(&polled, 1, 20000), 1) << "the keyholder closes its end, and is not killed";
  EXPECT_EQ(polled.revents, POLLERR);
}

TEST_F(KeyholderSigning, AFloodOfRefusalsDoesNotFillTheLog) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(ReasonFor(kRsaId, 0x0804, Tls13Content()), Reason::kCertificate);
  }
  const std::string log = keyholder_.Log();
  EXPECT_LE(std::ranges::count(log, '\n'), 20) << log;
  EXPECT_THAT(log, HasSubstr("count=512"));
}

// --- A service that only has TLS 1.3 ---

class KeyholderOfModern : public KeyholderSigning {
 protected:
  KeyholderOfModern() { policy_ = supervision::Policy::kModern; }
};

// Nor does one with both versions sign what hides that it has TLS 1.3.
TEST_F(KeyholderSigning, SaysThatThereIsTls13) {
  Octets content = Bytes(testlib::Tls12(tls_groups::kOffered[0].id));
  content[63] ^= 2;
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
}

TEST_F(KeyholderOfModern, SignsAsAServerOnlyInTls13) {
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, Tls13Content()), std::nullopt);
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, Bytes(testlib::Tls12(group.id))),
              Reason::kContent);
  }
}

// A service's policy is for the clients that connect to it; the servers to which it connects have
// policies of their own.
TEST_F(KeyholderOfModern, SignsAsAClientInBoth) {
  for (const Octets& content : {Tls13ClientContent(), Tls12ClientContent()}) {
    EXPECT_EQ(ReasonFor(kClientId, schemes::kEcdsaSecp256r1Sha256, content), std::nullopt);
  }
}

// --- A service that only has TLS 1.2 ---

class KeyholderOfTls12 : public KeyholderSigning {
 protected:
  KeyholderOfTls12() { policy_ = supervision::Policy::kTls12; }
};

// The random of a server that has TLS 1.3 as well says so; that of this one must not, or clients
// take it for an attack.
TEST_F(KeyholderOfTls12, SignsAsAServerOnlyInTls12) {
  for (const tls_groups::Group& group : tls_groups::kOffered) {
    Octets content = Bytes(testlib::Tls12(group.id));
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), Reason::kContent);
    content[63] ^= 2;
    EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, content), std::nullopt);
  }
  EXPECT_EQ(ReasonFor(kEcId, schemes::kEcdsaSecp256r1Sha256, Tls13Content()), Reason::kContent);
}

// --- Fair shares ---

TEST(RateLimitTest, BurstThenRate) {
  RateLimit limit(/*per_second=*/10, /*burst=*/3);
  const RateLimit::Clock::time_point start = RateLimit::Clock::now();
  const auto taken = [&](int ms) { return limit.Take(start + std::chrono::milliseconds(ms)); };
  EXPECT_TRUE(taken(0) && taken(0) && taken(0));
  EXPECT_FALSE(taken(0) || taken(99));
  EXPECT_TRUE(taken(100));
  EXPECT_FALSE(taken(100) || taken(199));
  EXPECT_TRUE(taken(200));
  EXPECT_TRUE(taken(5000) && taken(5000) && taken(5000));  // no more than the burst can be saved up
  EXPECT_FALSE(taken(5000));
}

// A service in this process, with one key, number 1, which two channels may use.
class TwoChannels : public NoFdLeaks {
 protected:
  explicit TwoChannels(RateLimit rate = RateLimit(1000, 1000)) {
    EVP_PKEY_up_ref(ec_.key.get());
    auto key = PrivateKey::Create(EvpPkeyPtr(ec_.key.get()), ec_.certificate.get());
    EXPECT_TRUE(key.ok() && service_.AddKey(1, *std::move(key)));
    std::tie(control_, control_end_) = channel::MakePair();
    for (uint16_t i = 0; i < 2; ++i) {
      pipes::Pipe requests = pipes::Make();
      pipes::Pipe answers = pipes::Make();
      handshakers_[i] = {std::move(requests.writing), std::move(answers.reading)};
      EXPECT_TRUE(service_.AddChannel(
          i, {{1}, {}}, {std::move(requests.reading), std::move(answers.writing)}, rate));
    }
  }
  void SendRequest(int handshaker) {
    const Octets request = signing::Encode(signing::Sign{1, 1, 0x0403, Tls13Content()});
    EXPECT_EQ(pipes::Send(handshakers_[handshaker].requests.get(), request), pipes::Result::kOk);
  }
  int CountReplies(int handshaker) {
    pipes::Reader reader(signing::kMaxReply);
    int count = 0;
    while (reader.Next(handshakers_[handshaker].answers.get()) == pipes::Result::kOk) ++count;
    return count;
  }

  const Identity ec_{"P-256"};
  SignService service_;
  UniqueFd control_, control_end_;
  testlib::SigningEnds handshakers_[2];
};

class Fairness : public TwoChannels {};

TEST_F(Fairness, OneRequestOfEachChannelInTurn) {
  for (int i = 0; i < 50; ++i) SendRequest(0);
  SendRequest(1);
  ASSERT_TRUE(service_.Round(control_end_.get()).value());
  EXPECT_EQ(CountReplies(0), 1);
  EXPECT_EQ(CountReplies(1), 1);
}

// One read(2) takes many requests out of the pipe; then nothing is left in the pipe to wait for.
TEST_F(Fairness, RequestsThatCameTogetherAreAllAnswered) {
  for (int i = 0; i < 5; ++i) SendRequest(0);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(service_.Round(control_end_.get()).value());
    EXPECT_EQ(CountReplies(0), 1);
  }
}

TEST_F(Fairness, WhatCameBeforeTheEndIsAnsweredInVain) {
  for (int i = 0; i < 5; ++i) SendRequest(0);
  ASSERT_TRUE(service_.Round(control_end_.get()).value());
  handshakers_[0] = {};
  for (int i = 0; i < 2; ++i) {
    SendRequest(1);
    ASSERT_TRUE(service_.Round(control_end_.get()).value());
    EXPECT_EQ(CountReplies(1), 1);
  }
  EXPECT_EQ(service_.counters(0).malformed, 0u);
}

TEST_F(Fairness, AChannelThatEndsIsForgotten) {
  handshakers_[0] = {};
  ASSERT_TRUE(service_.Round(control_end_.get()).value());
  SendRequest(1);
  ASSERT_TRUE(service_.Round(control_end_.get()).value());
  EXPECT_EQ(CountReplies(1), 1);
  EXPECT_EQ(service_.counters(0).malformed, 0u);
}

class ChannelRate : public TwoChannels {
 protected:
  ChannelRate() : TwoChannels(RateLimit(/*per_second=*/1, /*burst=*/2)) {}
};

TEST_F(ChannelRate, IsEachChannelsOwn) {
  for (int i = 0; i < 3; ++i) {
    SendRequest(0);
    ASSERT_TRUE(service_.Round(control_end_.get()).value());
  }
  SendRequest(1);
  ASSERT_TRUE(service_.Round(control_end_.get()).value());
  EXPECT_EQ(CountReplies(0), 3);
  EXPECT_EQ(service_.counters(0).signatures, 2u);
  EXPECT_EQ(service_.counters(0).refused[static_cast<size_t>(Reason::kRate)], 1u);
  EXPECT_EQ(service_.counters(1).signatures, 1u);
}

}  // namespace
}  // namespace tlsbroker
