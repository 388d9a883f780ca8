// SPDX-License-Identifier: Apache-2.0
// libtlsbroker: finding the queue, taking connections from it, and the hand-offs that it refuses.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/client_pair.h"

namespace tlsbroker {
namespace {

UniqueFd SomeFd() { return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

class ClientQueue : public ClientTest {
 protected:
  void SendPacket(const std::vector<uint8_t>& bytes, std::vector<int> fds) {
    ASSERT_EQ(channel::Send(broker_queue_.get(), bytes, fds), channel::Result::kOk);
  }
  int Accept() { return queue_.Accept(connection_, TLSBROKER_DONTWAIT); }

  Connection connection_;
};

TEST_F(ClientQueue, IsReadableWhenAConnectionWaits) {
  pollfd p{queue_.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  EXPECT_EQ(Accept(), -EAGAIN);
  const UniqueFd fd = SomeFd();
  SendPacket(handoff::Encode(SomeDescription(handoff::Mode::kRelay)), {fd.get()});
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(Accept(), 0);
  EXPECT_EQ(poll(&p, 1, 0), 0);
  EXPECT_EQ(fcntl(connection_.fd(), F_GETFD), FD_CLOEXEC);
  connection_.Abort();
}

TEST_F(ClientQueue, DoesNotTouchTheSharedFileStatusFlags) {
  EXPECT_EQ(Accept(), -EAGAIN);
  EXPECT_EQ(fcntl(queue_.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(ClientQueue, EndsWhenTheBrokerIsGoneAndNothingWaits) {
  const UniqueFd fd = SomeFd();
  SendPacket(handoff::Encode(SomeDescription(handoff::Mode::kRelay)), {fd.get()});
  broker_queue_.Reset();
  EXPECT_EQ(Accept(), 0);
  EXPECT_EQ(queue_.Accept(connection_), TLSBROKER_E_GONE);
  connection_.Abort();
}

TEST_F(ClientQueue, RefusesUnknownFlags) { EXPECT_EQ(queue_.Accept(connection_, 0x8000), -EINVAL); }

TEST_F(ClientQueue, GivesEveryField) {
  handoff::Description d = SomeDescription(handoff::Mode::kBridge);
  d.resumed = true;
  d.peer.ipv6 = d.local.ipv6 = true;
  inet_pton(AF_INET6, "2001:db8::7", d.peer.address.data());
  inet_pton(AF_INET6, "2001:db8::1", d.local.address.data());
  d.peer.port = 50'000;
  d.local.port = 443;
  d.unique_id.fill(0x5a);
  d.alpn = "http/1.1";
  d.server_name = "example.org";
  d.group = "x25519";
  d.key_algorithm = "EC256";
  d.client = handoff::kClientSsl | handoff::kClientCertConnection;
  d.verify = 0;
  d.client_common_name = "jane";
  d.client_certificate = {0x30, 0x00};
  d.rekey_token = {1, 2, 3};
  Connection c = HandOff(SomeFd(), d);
  EXPECT_EQ(c.mode(), TLSBROKER_BRIDGE);
  EXPECT_EQ(c.mode_name(), "bridge");
  EXPECT_EQ(c.reason(), "kernel-no-tls-ulp");
  EXPECT_EQ(c.service(), "web");
  EXPECT_EQ(c.unique_id(), std::string(16, 0x5a));
  EXPECT_EQ(c.peer(), "[2001:db8::7]:50000");
  EXPECT_EQ(c.local(), "[2001:db8::1]:443");
  const auto* peer = reinterpret_cast<const sockaddr_in6*>(tlsbroker_conn_peer(c.get()));
  EXPECT_EQ(peer->sin6_family, AF_INET6);
  EXPECT_EQ(ntohs(peer->sin6_port), 50'000);
  EXPECT_EQ(peer->sin6_addr.s6_addr[15], 7);
  EXPECT_EQ(c.tls_version(), "TLSv1.3");
  EXPECT_EQ(c.cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(c.group(), "x25519");
  EXPECT_EQ(c.key_algorithm(), "EC256");
  EXPECT_EQ(c.alpn(), "http/1.1");
  EXPECT_EQ(c.server_name(), "example.org");
  EXPECT_TRUE(c.resumed());
  EXPECT_TRUE(c.client_verified());
  EXPECT_EQ(c.client_common_name(), "jane");
  EXPECT_EQ(c.client_certificate(), std::string_view("\x30\x00", 2));
  size_t size;
  EXPECT_NE(tlsbroker_conn_rekey_token(c.get(), &size), nullptr);
  EXPECT_EQ(size, 3u);
  EXPECT_EQ(c.alert(), -1);
}

TEST_F(ClientQueue, LeavesAbsentFieldsOut) {
  Connection c = HandOff(SomeFd(), SomeDescription(handoff::Mode::kDirect));
  EXPECT_EQ(tlsbroker_conn_reason(c.get()), nullptr);
  EXPECT_EQ(tlsbroker_conn_alpn(c.get()), nullptr);
  EXPECT_EQ(tlsbroker_conn_server_name(c.get()), nullptr);
  EXPECT_EQ(tlsbroker_conn_client_common_name(c.get()), nullptr);
  size_t size = 1;
  EXPECT_EQ(tlsbroker_conn_client_certificate(c.get(), &size), nullptr);
  EXPECT_EQ(size, 0u);
  EXPECT_FALSE(c.client_verified());
  EXPECT_FALSE(c.resumed());
  EXPECT_EQ(tlsbroker_conn_local(c.get())->sa_family, AF_INET);
}

// For a client without a certificate a broken sender may set verify to 0, and nothing else.
TEST_F(ClientQueue, NoCertificateIsNeverVerified) {
  handoff::Description d = SomeDescription(handoff::Mode::kDirect);
  d.verify = 0;
  EXPECT_FALSE(HandOff(SomeFd(), d).client_verified());
}

TEST_F(ClientQueue, RefusesHandOffsWithoutExactlyOneDescriptor) {
  const UniqueFd fd = SomeFd();
  const std::vector<uint8_t> good = handoff::Encode(SomeDescription(handoff::Mode::kDirect));
  const size_t open = CountOpenFds();
  for (size_t count : {0, 2, 3, 4}) {
    SendPacket(good, std::vector<int>(count, fd.get()));
    EXPECT_EQ(Accept(), TLSBROKER_E_HANDOFF) << count;
    EXPECT_EQ(CountOpenFds(), open) << count;
  }
}

TEST_F(ClientQueue, RefusesMalformedDescriptionsAndGoesOn) {
  const UniqueFd fd = SomeFd();
  const std::vector<uint8_t> good = handoff::Encode(SomeDescription(handoff::Mode::kDirect));
  const size_t open = CountOpenFds();
  auto other_version = good;
  other_version[31] = 2;
  const std::vector<uint8_t> cut(good.begin(), good.end() - 1);
  auto too_long = good;
  too_long.resize(handoff::kMaxMessage + 1);
  for (const auto& bytes : {other_version, cut, too_long, std::vector<uint8_t>{0}}) {
    SendPacket(bytes, {fd.get()});
    EXPECT_EQ(Accept(), TLSBROKER_E_HANDOFF);
    EXPECT_EQ(CountOpenFds(), open);
  }
  SendPacket(good, {fd.get()});
  EXPECT_EQ(Accept(), 0);
  connection_.Abort();
}

// As with accept(2), a process at its limit of descriptors does not lose the connection that waits.
TEST_F(ClientQueue, KeepsTheConnectionWaitingWhenThereIsNoFreeDescriptor) {
  const UniqueFd fd = SomeFd();
  SendPacket(handoff::Encode(SomeDescription(handoff::Mode::kDirect)), {fd.get()});
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd lowest_free = SomeFd();
  const rlimit none_free = {static_cast<rlim_t>(lowest_free.get()) + 1, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none_free), 0);
  EXPECT_EQ(Accept(), -EMFILE);
  EXPECT_EQ(Accept(), -EMFILE);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(Accept(), 0);
  connection_.Abort();
}

TEST_F(ClientQueue, ADroppedConnectionIsClosed) {
  const size_t open = CountOpenFds();
  {
    Connection one = HandOff(SomeFd(), SomeDescription(handoff::Mode::kRelay));
    Connection two = HandOff(SomeFd(), SomeDescription(handoff::Mode::kDirect));
    EXPECT_EQ(CountOpenFds(), open + 2);
    one = std::move(two);
    EXPECT_EQ(CountOpenFds(), open + 1);
  }
  EXPECT_EQ(CountOpenFds(), open);
}

TEST(ClientQueueFromFd, RefusesWhatIsNoQueueAndLeavesItToTheCaller) {
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Queue queue;
  EXPECT_EQ(Queue::FromFd(-1, queue), -EBADF);
  EXPECT_EQ(Queue::FromFd(file.get(), queue), -ENOTSOCK);
  EXPECT_EQ(Queue::FromFd(stream.get(), queue), -EPROTOTYPE);
  EXPECT_EQ(Queue::FromFd(tcp.get(), queue), -EPROTOTYPE);
  EXPECT_FALSE(queue);
  EXPECT_GE(fcntl(file.get(), F_GETFD), 0);
  EXPECT_GE(fcntl(tcp.get(), F_GETFD), 0);
}

// ---- The environment. The tests need descriptors from 3 on, so each case runs in a child.

struct Environment {
  const char* fds;
  const char* names;
  bool right_pid = true;
};

constexpr const char* kVariables[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
                                      "LISTEN_PIDFDID"};

// 3 is a file, 4 a queue, 5 another queue. Returns the descriptor that was found, or the error.
int FindQueueInChild(const Environment& environment, const char* service) {
  const UniqueFd file = SomeFd();
  auto [a, b] = channel::MakePair();
  const int sources[] = {fcntl(file.get(), F_DUPFD, 100), fcntl(a.get(), F_DUPFD, 100),
                         fcntl(b.get(), F_DUPFD, 100)};
  for (int i = 0; i < 3; ++i) dup2(sources[i], 3 + i);
  setenv("LISTEN_PID", std::to_string(environment.right_pid ? getpid() : 1).c_str(), 1);
  setenv("LISTEN_FDS", environment.fds, 1);
  setenv("LISTEN_FDNAMES", environment.names, 1);
  setenv("LISTEN_PIDFDID", "7", 1);
  Queue queue;
  const int error = Queue::FromEnvironment(service, queue);
  for (const char* variable : kVariables)
    if (getenv(variable) != nullptr) return -1000;
  const bool passed = environment.right_pid && std::string_view(environment.fds) == "3";
  for (int fd = 3; passed && fd < 6; ++fd)
    if (fcntl(fd, F_GETFD) != FD_CLOEXEC) return -1001;
  return error < 0 ? error : queue.fd();
}

int FindQueue(const Environment& environment, const char* service) {
  int result[2];
  EXPECT_EQ(pipe2(result, O_CLOEXEC), 0);
  const UniqueFd from(result[0]), to(result[1]);
  const pid_t child = fork();
  if (child == 0) {
    const UniqueFd out(fcntl(to.get(), F_DUPFD_CLOEXEC, 200));
    const int found = FindQueueInChild(environment, service);
    _exit(write(out.get(), &found, sizeof(found)) == sizeof(found) ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  int found = 0;
  EXPECT_EQ(read(from.get(), &found, sizeof(found)), static_cast<ssize_t>(sizeof(found)));
  return found;
}

TEST(ClientQueueFromEnvironment, FindsTheQueueByName) {
  const Environment environment = {"3", "file:tlsbroker.web:tlsbroker.mail"};
  EXPECT_EQ(FindQueue(environment, "web"), 4);
  EXPECT_EQ(FindQueue(environment, "mail"), 5);
  EXPECT_EQ(FindQueue(environment, nullptr), 4);
  EXPECT_EQ(FindQueue(environment, "we"), -ENOENT);
  EXPECT_EQ(FindQueue(environment, ""), -ENOENT);
  EXPECT_EQ(FindQueue(environment, "file"), -ENOENT);
}

TEST(ClientQueueFromEnvironment, ChecksThePid) {
  EXPECT_EQ(FindQueue({"3", "a:tlsbroker.web:b", /*right_pid=*/false}, "web"), -ENOENT);
}

TEST(ClientQueueFromEnvironment, ChecksWhatItFinds) {
  EXPECT_EQ(FindQueue({"3", "tlsbroker.web:a:b"}, "web"), -ENOTSOCK);
}

TEST(ClientQueueFromEnvironment, SurvivesNonsense) {
  EXPECT_EQ(FindQueue({"", "tlsbroker.web"}, "web"), -ENOENT);
  EXPECT_EQ(FindQueue({"-1", "tlsbroker.web"}, "web"), -ENOENT);
  EXPECT_EQ(FindQueue({"3x", "tlsbroker.web"}, "web"), -ENOENT);
  EXPECT_EQ(FindQueue({"99999999999999999999", "tlsbroker.web"}, "web"), -ENOENT);
  EXPECT_EQ(FindQueue({"3", ""}, nullptr), -ENOENT);
  EXPECT_EQ(FindQueue({"3", ":::::::"}, "web"), -ENOENT);
  EXPECT_EQ(FindQueue({"1", "a:tlsbroker.web"}, "web"), -ENOENT) << "more names than descriptors";
  EXPECT_EQ(FindQueue({"2147483647", "a:tlsbroker.web"}, "web"), 4);
}

TEST(ClientResults, AllHaveAText) {
  std::set<std::string_view> texts;
  for (int result = TLSBROKER_E_GONE; result <= TLSBROKER_E_TRUNCATED; ++result)
    texts.insert(tlsbroker_strerror(result));
  EXPECT_EQ(texts.size(), static_cast<size_t>(TLSBROKER_E_TRUNCATED - TLSBROKER_E_GONE + 1));
  EXPECT_STREQ(tlsbroker_strerror(-EPIPE), "Broken pipe");
  EXPECT_NE(tlsbroker_strerror(-4000), nullptr);
  EXPECT_NE(tlsbroker_strerror(INT32_MIN), nullptr);
}

// Several workers may wait, and a connection wakes one of them.
TEST_F(ClientQueue, TheDescriptorTakesExclusiveWaiters) {
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  EXPECT_EQ(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, queue_.fd(), &event), 0) << strerror(errno);
}

}  // namespace
}  // namespace tlsbroker
