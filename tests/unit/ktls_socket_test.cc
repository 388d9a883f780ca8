// SPDX-License-Identifier: Apache-2.0
// Installations that fail, on any kernel: nothing is installed, and the socket stays usable. Those
// that succeed are in tests/interop/ktls_socket_test.cc, on kernels with TLS.

#include "broker/handshaker/ktls_socket.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>

#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/loopback.h"

namespace tlsbroker {
namespace {

using testing::HasSubstr;

TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }

LoopbackConnection Connect() {
  const auto listener = LoopbackListener::Create();
  EXPECT_TRUE(listener.ok()) << listener.status();
  auto connection = listener->Connect(Soon());
  EXPECT_TRUE(connection.ok()) << connection.status();
  return std::move(connection).value();
}

SessionKeys Keys() {
  const auto secret = [](uint8_t value) {
    SecretBytes bytes;
    std::ranges::fill(bytes.Resize(32), value);
    return bytes;
  };
  const Tls13Secrets secrets{secret(1), secret(2)};
  return *DeriveTls13(nullptr, Suite::kAes128Gcm, "SHA256", secrets, 0);
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

void ExpectStillPlain(const UniqueFd& near, const UniqueFd& far) {
  EXPECT_TRUE(SendAll(near.get(), "plain", Soon()).ok());
  EXPECT_EQ(*ReceiveExactly(far.get(), 5, Soon()), "plain");
  EXPECT_TRUE(SendAll(far.get(), "text", Soon()).ok());
  EXPECT_EQ(*ReceiveExactly(near.get(), 4, Soon()), "text");
}

TEST(EnableUlp, SaysWhatWouldHelpWhereTheKernelHasNoTls) {
  const LoopbackConnection connection = Connect();
  const absl::Status status = EnableUlp(connection.near.get());
  if (status.ok()) GTEST_SKIP() << "this kernel has TLS";
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_THAT(Message(status), HasSubstr("modprobe tls"));
  EXPECT_THAT(Message(status), HasSubstr("No such file or directory"));
  ExpectStillPlain(connection.near, connection.far);
}

TEST(EnableUlp, RefusesWhatIsNoTcpSocket) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd one(pair[0]), other(pair[1]);
  EXPECT_FALSE(EnableUlp(one.get()).ok());
  EXPECT_FALSE(EnableUlp(-1).ok());
}

TEST(Install, GivesTheSocketBackPlainWhereThereIsNoUlp) {
  LoopbackConnection connection = Connect();
  const int number = connection.near.get();
  const auto outcome = KtlsSocket::Install(std::move(connection.near), Keys());
  EXPECT_EQ(outcome.result, InstallResult::kNothingInstalled);
  EXPECT_FALSE(outcome.socket.has_value());
  EXPECT_THAT(Message(outcome.status), HasSubstr("TLS_TX"));
  EXPECT_THAT(Message(outcome.status), HasSubstr("no TLS upper layer protocol"));
  ASSERT_EQ(outcome.refused.get(), number);
  ExpectStillPlain(outcome.refused, connection.far);
}

TEST(Install, ChecksBothDirectionsBeforeTheFirst) {
  const auto result_without = [](auto remove) {
    SessionKeys keys = Keys();
    remove(keys);
    const auto outcome = KtlsSocket::Install(Connect().near, keys);
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument) << outcome.status;
    EXPECT_TRUE(outcome.refused.valid());
    return outcome.result;
  };
  const auto nothing = InstallResult::kNothingInstalled;
  EXPECT_EQ(result_without([](SessionKeys& keys) { keys.tx.crypto_info.Clear(); }), nothing);
  EXPECT_EQ(result_without([](SessionKeys& keys) { keys.rx.crypto_info.Clear(); }), nothing);
  EXPECT_EQ(result_without([](SessionKeys& keys) { keys.version = TlsVersion::kTls12; }), nothing);
  EXPECT_EQ(result_without([](SessionKeys& keys) { keys.suite = Suite::kAes256Gcm; }), nothing);
}

TEST(Install, ABadDescriptorIsNothingInstalled) {
  const auto outcome = KtlsSocket::Install(UniqueFd(), Keys());
  EXPECT_EQ(outcome.result, InstallResult::kNothingInstalled);
  EXPECT_FALSE(outcome.refused.valid());
}

static_assert(!std::is_copy_constructible_v<KtlsSocket>);
static_assert(!std::is_default_constructible_v<KtlsSocket>);
static_assert(!std::is_constructible_v<KtlsSocket, UniqueFd>, "only Install() makes one");

int OpenFds() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) != -1;
  return count;
}

TEST(Probe, GivesAReasonForEveryNo) {
  const int before = OpenFds();
  const KtlsCapabilities found = KtlsCapabilities::Probe(nullptr);
  EXPECT_EQ(OpenFds(), before);
  for (const TlsVersion version : kVersions) {
    for (const Suite suite : kSuites) {
      EXPECT_EQ(found.Supports(version, suite), found.Reason(version, suite).empty());
      for (const Direction direction : kDirections) {
        const DirectionSupport& support = found.Get(version, suite, direction);
        EXPECT_EQ(support.ok, support.reason.empty());
        EXPECT_EQ(support.ok, support.detail.empty());
        EXPECT_TRUE(found.ulp() || support.reason == "kernel-no-tls-ulp") << support.reason;
      }
    }
  }
  const std::string rekey = found.rekey(Direction::kRx).reason;
  EXPECT_TRUE(found.ulp() || rekey == "kernel-no-tls-ulp") << rekey;
}

// Otherwise a local attacker who connects before the probe does could make every handshaker relay.
TEST(Loopback, AStrangersConnectionIsNotTaken) {
  const auto listener = LoopbackListener::Create();
  ASSERT_TRUE(listener.ok());
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(getsockname(listener->get(), generic, &size), 0);
  const UniqueFd stranger(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(stranger.get(), generic, size), 0);
  const auto ours = listener->Connect(Soon());
  ASSERT_TRUE(ours.ok()) << ours.status();
  ExpectStillPlain(ours->near, ours->far);
}

}  // namespace
}  // namespace tlsbroker
