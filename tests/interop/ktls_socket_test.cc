// SPDX-License-Identifier: Apache-2.0
// KtlsSocket on kernels with TLS: what is on the wire, which OpenSSL at the other end judges; what
// is left when a direction is refused; rekeying. The capability probe has to agree with all of
// this.

#include "broker/handshaker/ktls_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/tls.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "broker/handshaker/crypto_info.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/loopback.h"
#include "broker/handshaker/record_cipher.h"
#include "tests/interop/fault.h"
#include "tests/testlib/memory_session.h"
#include "tests/testlib/stack_remains.h"

namespace tlsbroker {
namespace {

using testing::HasSubstr;

constexpr int kSolTls = 282;
constexpr char kSecretText[] = "nobody on the wire may read this";

// The time limit is long because software emulation is slow.
TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(30); }

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// Everything until the end of the stream.
std::string ReceiveAll(int socket) {
  std::string all;
  while (true) {
    const auto byte = ReceiveExactly(socket, 1, Soon());
    if (!byte.ok()) return all;
    all += *byte;
  }
}

// Receives one TLS record, with its header.
std::string ReceiveRecord(int socket) {
  const std::string header = ReceiveExactly(socket, kRecordHeaderSize, Soon()).value_or("");
  if (header.size() != kRecordHeaderSize) return header;
  const size_t body = static_cast<uint8_t>(header[3]) << 8 | static_cast<uint8_t>(header[4]);
  return header + ReceiveExactly(socket, body, Soon()).value_or("");
}

LoopbackConnection Connect() {
  const auto listener = LoopbackListener::Create();
  EXPECT_TRUE(listener.ok()) << listener.status();
  return *listener->Connect(Soon());
}

// A connection whose near end has the ULP; a handshake in memory takes the place of one on the
// wire.
class OnKernelWithTls : public testing::Test {
 protected:
  void SetUp() override {
    connection_ = Connect();
    const absl::Status enabled = EnableUlp(connection_.near.get());
    if (!enabled.ok()) GTEST_SKIP() << enabled;
  }

  int near() const { return connection_.near.get(); }
  int far() const { return connection_.far.get(); }

  LoopbackConnection connection_;
};

class KtlsCombination : public OnKernelWithTls,
                        public testing::WithParamInterface<std::tuple<TlsVersion, Suite>> {
 protected:
  KtlsCombination() : session_(version(), suite()) {}
  void SetUp() override {
    OnKernelWithTls::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(session_.Handshake());
  }

  static TlsVersion version() { return std::get<0>(GetParam()); }
  static Suite suite() { return std::get<1>(GetParam()); }

  KtlsSocket Install() {
    auto outcome = KtlsSocket::Install(std::move(connection_.near), *session_.ServerKeys());
    EXPECT_EQ(outcome.result, InstallResult::kOk) << outcome.status;
    EXPECT_TRUE(outcome.status.ok());
    EXPECT_FALSE(outcome.refused.valid());
    return std::move(*outcome.socket);
  }

  MemorySession session_;
};

TEST_P(KtlsCombination, OpensslAtTheOtherEndUnderstandsAndIsUnderstood) {
  const KtlsSocket socket = Install();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(SendAll(socket.get(), kSecretText, Soon()).ok());
    const std::string wire = ReceiveRecord(far());
    EXPECT_EQ(wire.find("nobody"), std::string::npos);
    EXPECT_EQ(session_.ClientReads(wire), kSecretText);
    ASSERT_TRUE(SendAll(far(), session_.ClientWrites("an answer"), Soon()).ok());
    EXPECT_EQ(*ReceiveExactly(socket.get(), 9, Soon()), "an answer");
  }
}

TEST_P(KtlsCombination, TheKernelReturnsWhatWasInstalled) {
  const SessionKeys keys = *session_.ServerKeys();
  const KtlsSocket socket = Install();
  for (const int option : {TLS_TX, TLS_RX}) {
    tls_crypto_info info{};
    socklen_t size = sizeof(info);
    ASSERT_EQ(getsockopt(socket.get(), kSolTls, option, &info, &size), 0);
    EXPECT_EQ(info.version, KernelVersion(version()));
    EXPECT_EQ(info.cipher_type, LayoutOf(suite()).cipher_type);
    std::vector<uint8_t> whole(LayoutOf(suite()).size());
    size = static_cast<socklen_t>(whole.size());
    ASSERT_EQ(getsockopt(socket.get(), kSolTls, option, whole.data(), &size), 0);
    const auto installed = (option == TLS_TX ? keys.tx : keys.rx).crypto_info.bytes();
    EXPECT_TRUE(std::ranges::equal(whole, installed));
  }
}

// A client may send Finished, a request and its FIN in one segment: all of it comes before the keys
// are installed, but after the ULP, which is set right after accept().
TEST_P(KtlsCombination, WhatCameBeforeTheKeysIsReadWithThem) {
  ASSERT_TRUE(SendAll(far(), session_.ClientWrites("early bird"), Soon()).ok());
  ASSERT_EQ(shutdown(far(), SHUT_WR), 0);
  const KtlsSocket socket = Install();
  EXPECT_EQ(*ReceiveExactly(socket.get(), 10, Soon()), "early bird");
  ASSERT_TRUE(SendAll(socket.get(), "answer", Soon()).ok());
  EXPECT_EQ(session_.ClientReads(ReceiveRecord(far())), "answer");
}

TEST_P(KtlsCombination, ReleaseGivesTheSocketAway) {
  KtlsSocket socket = Install();
  const int number = socket.get();
  const UniqueFd released = std::move(socket).Release();
  EXPECT_EQ(released.get(), number);
  ASSERT_TRUE(SendAll(released.get(), "x", Soon()).ok());
  EXPECT_EQ(session_.ClientReads(ReceiveRecord(far())), "x");
}

TEST_P(KtlsCombination, NoKeyIsLeftOnTheStack) {
  const SessionKeys keys = *session_.ServerKeys();
  std::vector<std::string> searched;
  for (const DirectionKeys* each : {&keys.tx, &keys.rx}) {
    const auto key = FieldsOf(suite(), each->crypto_info.bytes()).key;
    searched.emplace_back(key.begin(), key.end());
  }
  const std::string left = StackAfter([&] {
    EXPECT_EQ(KtlsSocket::Install(std::move(connection_.near), keys).result, InstallResult::kOk);
  });
  EXPECT_FALSE(HoldsPartOf(left, searched));
}

// Only TLS 1.3 has KeyUpdates, and only kernels from 6.14 on replace keys.
TEST_P(KtlsCombination, ASecondKeyIsTakenOrRefusedAsTheProbeSays) {
  const KtlsCapabilities probe = KtlsCapabilities::Probe(nullptr);
  const SessionKeys keys = *session_.ServerKeys();
  const KtlsSocket socket = Install();
  for (const Direction direction : kDirections) {
    const DirectionKeys& again = direction == Direction::kTx ? keys.tx : keys.rx;
    const absl::Status status = InstallDirection(socket.get(), direction, again);
    const bool expected = version() == TlsVersion::kTls13 && probe.rekey(direction).ok;
    EXPECT_EQ(status.ok(), expected) << status;
    EXPECT_EQ(absl::StrContains(status.message(), "does not replace"), !expected) << status;
  }
}

INSTANTIATE_TEST_SUITE_P(All, KtlsCombination,
                         testing::Combine(testing::ValuesIn(kVersions),
                                          testing::ValuesIn(kSuites)));

class KtlsFault : public KtlsCombination {
 protected:
  KtlsSocket::Outcome InstallWith(const Fault& fault) {
    std::optional<KtlsSocket::Outcome> outcome;
    EXPECT_TRUE(WithFault(fault, [&] {
      outcome = KtlsSocket::Install(std::move(connection_.near), *session_.ServerKeys());
    }));
    return std::move(*outcome);
  }

  void ExpectInDoubt(const Fault& fault) {
    const auto outcome = InstallWith(fault);
    EXPECT_EQ(outcome.result, InstallResult::kInDoubt) << outcome.status;
    EXPECT_FALSE(outcome.status.ok());
    EXPECT_FALSE(outcome.socket.has_value());
    EXPECT_TRUE(outcome.refused.valid());
  }
};

TEST_P(KtlsFault, WithoutTheFirstDirectionTheSocketIsPlainAndARelayGoesOn) {
  const auto outcome = InstallWith({SCMP_SYS(setsockopt), TLS_TX, ENOENT});
  EXPECT_EQ(outcome.result, InstallResult::kNothingInstalled);
  EXPECT_THAT(Message(outcome.status), HasSubstr("no module for this AEAD"));
  // The socket sends what OpenSSL makes as it is, and delivers to OpenSSL what comes in as it is.
  ASSERT_TRUE(SendAll(outcome.refused.get(), session_.ServerWrites("relayed"), Soon()).ok());
  EXPECT_EQ(session_.ClientReads(ReceiveRecord(far())), "relayed");
  ASSERT_TRUE(SendAll(far(), session_.ClientWrites("too"), Soon()).ok());
  EXPECT_EQ(session_.ServerReads(ReceiveRecord(outcome.refused.get())), "too");
}

// This is why TX is installed first: what is written leaves as a record, and OpenSSL can open what
// comes.
TEST_P(KtlsFault, WithoutTheSecondDirectionTheKernelSealsAndARelayGoesOn) {
  auto outcome = InstallWith({SCMP_SYS(setsockopt), TLS_RX, ENOMEM});
  EXPECT_EQ(outcome.result, InstallResult::kTxOnly);
  EXPECT_THAT(Message(outcome.status), HasSubstr("TLS_RX"));
  ASSERT_TRUE(SendAll(outcome.refused.get(), kSecretText, Soon()).ok());
  EXPECT_EQ(session_.ClientReads(ReceiveRecord(far())), kSecretText);
  ASSERT_TRUE(SendAll(far(), session_.ClientWrites(kSecretText), Soon()).ok());
  EXPECT_EQ(session_.ServerReads(ReceiveRecord(outcome.refused.get())), kSecretText);
  EXPECT_EQ(SendAlertRecord(outcome.refused.get(), 1, 0), 0);
  EXPECT_EQ(session_.ClientReads(ReceiveRecord(far())), "");
  EXPECT_EQ(SSL_get_shutdown(session_.client()), SSL_RECEIVED_SHUTDOWN);
  outcome.refused.Reset();
  EXPECT_EQ(ReceiveAll(far()), "");
}

// And this is why RX is not installed first.
TEST_P(KtlsFault, WithReceivingOnlyAWriteLeavesInClear) {
  ASSERT_TRUE(InstallDirection(near(), Direction::kRx, session_.ServerKeys()->rx).ok());
  ASSERT_TRUE(SendAll(near(), kSecretText, Soon()).ok());
  EXPECT_EQ(*ReceiveExactly(far(), sizeof(kSecretText) - 1, Soon()), kSecretText);
}

TEST_P(KtlsFault, KeysThatCannotBeReadBackAreNotTrusted) {
  ExpectInDoubt({SCMP_SYS(getsockopt), TLS_TX, EINVAL});
}

TEST_P(KtlsFault, NorAreThoseOfTheSecondDirection) {
  ExpectInDoubt({SCMP_SYS(getsockopt), TLS_RX, EINVAL});
}

// A seccomp filter with "error 0" makes the call report success although nothing was done.
TEST_P(KtlsFault, AKernelThatOnlySaysYesIsFoundOut) {
  ExpectInDoubt({SCMP_SYS(setsockopt), TLS_TX, 0});
  connection_ = Connect();
  ASSERT_TRUE(EnableUlp(near()).ok());
  ExpectInDoubt({SCMP_SYS(setsockopt), TLS_RX, 0});
}

// A getsockopt(2) that reports success and does nothing leaves the buffer as it was: that must not
// pass for a read-back.
TEST_P(KtlsFault, AReadBackThatOnlySaysYesIsFoundOut) {
  ExpectInDoubt({SCMP_SYS(getsockopt), TLS_RX, 0});
}

INSTANTIATE_TEST_SUITE_P(All, KtlsFault,
                         testing::Combine(testing::ValuesIn(kVersions),
                                          testing::ValuesIn(kSuites)));

// One thread makes all tries; each closes its socket as the handshaker does.
TEST_F(OnKernelWithTls, AThousandRefusalsPutNotOneByteOnTheWire) {
  MemorySession session(TlsVersion::kTls13, Suite::kAes128Gcm);
  ASSERT_TRUE(session.Handshake());
  const SessionKeys keys = *session.ServerKeys();
  const auto listener = LoopbackListener::Create();
  for (const int option : {TLS_TX, TLS_RX}) {
    ASSERT_TRUE(WithFault({SCMP_SYS(setsockopt), option, ENOMEM}, [&] {
      for (int i = 0; i < 500; ++i) {
        auto connection = *listener->Connect(Soon());
        ASSERT_TRUE(EnableUlp(connection.near.get()).ok());
        ASSERT_NE(KtlsSocket::Install(std::move(connection.near), keys).result, InstallResult::kOk);
        ASSERT_EQ(ReceiveAll(connection.far.get()), "");
      }
    }));
  }
}

TEST_F(OnKernelWithTls, ALateUlpSaysWhy) {
  const LoopbackConnection late = Connect();
  ASSERT_EQ(shutdown(late.far.get(), SHUT_WR), 0);
  ASSERT_EQ(ReceiveAll(late.near.get()), "");
  EXPECT_THAT(Message(EnableUlp(late.near.get())), HasSubstr("peer has closed"));
  EXPECT_THAT(Message(EnableUlp(near())), HasSubstr("already"));
}

TEST_F(OnKernelWithTls, AListenerTakesNoUlp) {
  const auto listener = LoopbackListener::Create();
  EXPECT_THAT(Message(EnableUlp(listener->get())), HasSubstr("not established"));
}

// TLSBROKER_WITHOUT_MODULE is the module that the guest was booted without.
TEST_F(OnKernelWithTls, TheProbeFindsEverythingButWhatWasTakenAway) {
  const KtlsCapabilities found = KtlsCapabilities::Probe(nullptr);
  ASSERT_TRUE(found.ulp());
  const char* without = getenv("TLSBROKER_WITHOUT_MODULE");
  const std::string removed = without == nullptr ? "" : without;
  for (const TlsVersion version : kVersions) {
    for (const Suite suite : kSuites) {
      const bool chacha = suite == Suite::kChaCha20Poly1305;
      const bool expected =
          !(removed == "chacha20poly1305" && chacha) && !(removed == "gcm" && !chacha);
      EXPECT_EQ(found.Supports(version, suite), expected)
          << VersionName(version) << " " << SuiteName(suite) << " "
          << found.Get(version, suite, Direction::kTx).detail;
      if (expected) continue;
      EXPECT_THAT(found.Reason(version, suite), testing::StartsWith("kernel-no-"));
      EXPECT_THAT(found.Reason(version, suite), testing::EndsWith("-tx"));
      EXPECT_THAT(found.Get(version, suite, Direction::kRx).detail, HasSubstr("no module"));
    }
  }
}

TEST_F(OnKernelWithTls, TheProbeFindsRekeyingWhereItIsExpected) {
  const char* expected = getenv("TLSBROKER_EXPECT");
  if (expected == nullptr) GTEST_SKIP() << "TLSBROKER_EXPECT does not say";
  const bool rekey = std::string_view(expected).find("rekey") != std::string_view::npos;
  const KtlsCapabilities found = KtlsCapabilities::Probe(nullptr);
  for (const Direction direction : kDirections) {
    EXPECT_EQ(found.rekey(direction).ok, rekey) << found.rekey(direction).detail;
    EXPECT_EQ(absl::StartsWith(found.rekey(direction).reason, "kernel-no-rekey-"), !rekey);
  }
}

TEST_F(OnKernelWithTls, AProbeOfAKernelThatRefusesOneDirectionSaysWhich) {
  ASSERT_TRUE(WithFault({SCMP_SYS(setsockopt), TLS_RX, ENOMEM}, [] {
    const KtlsCapabilities found = KtlsCapabilities::Probe(nullptr);
    EXPECT_TRUE(found.Get(TlsVersion::kTls13, Suite::kAes256Gcm, Direction::kTx).ok);
    EXPECT_FALSE(found.Supports(TlsVersion::kTls13, Suite::kAes256Gcm));
    EXPECT_EQ(found.Reason(TlsVersion::kTls13, Suite::kAes256Gcm), "kernel-no-aes-256-gcm-rx");
  }));
}

TEST_F(OnKernelWithTls, AProbeWithoutAnythingToCheckTheKernelWithSaysSo) {
  const OsslLibCtxPtr library(OSSL_LIB_CTX_new());
  const OsslProviderPtr no_ciphers(OSSL_PROVIDER_load(library.get(), "base"));
  const KtlsCapabilities found = KtlsCapabilities::Probe(library.get());
  EXPECT_EQ(found.Reason(TlsVersion::kTls12, Suite::kAes128Gcm), "openssl-no-aes-128-gcm-tx");
  EXPECT_EQ(ERR_peek_error(), 0u);
}

// How long a probe may take at a handshaker's start: the modules are loaded by now, and where one
// is missing the kernel looks for it once.
TEST_F(OnKernelWithTls, TheProbeIsFast) {
  (void)KtlsCapabilities::Probe(nullptr);
  const TimePoint start = std::chrono::steady_clock::now();
  (void)KtlsCapabilities::Probe(nullptr);
  const auto taken = std::chrono::steady_clock::now() - start;
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(taken).count();
  RecordProperty("milliseconds", static_cast<int>(milliseconds));
  printf("the probe took %ld ms\n", static_cast<long>(milliseconds));
  EXPECT_LT(taken, std::chrono::seconds(4)) << "a limit for software emulation on a busy machine";
}

}  // namespace
}  // namespace tlsbroker
