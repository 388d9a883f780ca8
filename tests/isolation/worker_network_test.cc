// SPDX-License-Identifier: Apache-2.0
// A confined worker with `network = false` has the connections that are handed to it, and no other.

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/sandbox/landlock.h"
#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerNetwork : public WorkerTest {
 protected:
  // Makes a listener that the attacks try to reach; returns its port.
  std::string Listen() {
    listener_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_.get(), name, size), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    EXPECT_EQ(getsockname(listener_.get(), name, &size), 0);
    return std::to_string(ntohs(address.sin_port));
  }

  UniqueFd listener_;
};

struct Family {
  int number;
  int type;
};
constexpr Family kFamilies[] = {{AF_INET, SOCK_STREAM},  {AF_INET, SOCK_DGRAM},
                                {AF_INET6, SOCK_STREAM}, {AF_NETLINK, SOCK_RAW},
                                {AF_PACKET, SOCK_RAW},   {AF_VSOCK, SOCK_STREAM},
                                {AF_ALG, SOCK_SEQPACKET}};

TEST_P(WorkerNetwork, Sockets) {
  for (const auto& [family, type] : kFamilies) {
    EXPECT_EQ(Confined({"socket", std::to_string(family), std::to_string(type)}), Refused(EACCES));
  }
  ExpectDenied(Refused(EACCES), {"socket", std::to_string(AF_INET), "1"});
  EXPECT_EQ(Confined({"socket", std::to_string(AF_UNIX), "1"}), kSucceeded);
}

// The kernel looks only at the low 32 bits.
TEST_P(WorkerNetwork, SocketFamilyInWideRegister) {
  ExpectDenied(Refused(EACCES), {"socket", std::to_string(AF_INET | 1ULL << 32), "1"});
  ExpectDenied(Refused(EACCES), {"socket", std::to_string(AF_INET | 0xffffffffULL << 32), "1"});
  EXPECT_EQ(Confined({"socket", std::to_string(AF_UNIX | 1ULL << 32), "1"}), kSucceeded);
  for (unsigned bit = 1; bit < 32; ++bit) {
    EXPECT_EQ(Confined({"socket", std::to_string(AF_UNIX | 1U << bit), "1"}), Refused(EACCES));
  }
}

TEST_P(WorkerNetwork, Socketpair) {
  EXPECT_EQ(Confined({"socketpair", std::to_string(AF_TIPC)}), Refused(EACCES));
  EXPECT_EQ(Confined({"socketpair", std::to_string(AF_UNIX)}), kSucceeded);
}

// The worker's connection is a socket of the broker's network namespace, but it cannot be used to
// connect elsewhere. Kernel TLS refuses the disconnect; Landlock (Linux 6.7) and the filter stop
// what would come after it.
TEST_P(WorkerNetwork, ConnectionIsNoWayOut) {
  const std::string port = Listen();
  EXPECT_EQ(Confined({"fast-open", port}), Refused(EACCES));
  if (!ktls_) {
    ASSERT_EQ(getenv("TLSBROKER_EXPECT"), nullptr) << "kernel TLS is expected here";
    GTEST_SKIP() << "a worker is handed no TCP socket without kernel TLS";
  }
  EXPECT_EQ(Confined({"tcp-reconnect", port}), Refused(EOPNOTSUPP));
  EXPECT_EQ(Confined({"tcp-listen"}), Refused(EOPNOTSUPP));
}

TEST_P(WorkerNetwork, AbstractSocket) {
  const std::string name = "tlsbroker-isolation-" + std::to_string(getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path + 1, name.data(), name.size());
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
            0);
  ASSERT_EQ(listen(listener.get(), 8), 0);
  if (root()) {
    ExpectDenied(Refused(ECONNREFUSED), {"connect-abstract", name});  // that name is not in its
                                                                      // namespace
  } else if (sandbox::Landlock::Version() >= 6) {
    ExpectDenied(Refused(EPERM), {"connect-abstract", name});
  } else {
    GTEST_SKIP() << "without root it takes Landlock's scopes (Linux 6.12)";
  }
}

TEST_P(WorkerNetwork, AllowedNetworkIsTheInternetOnly) {
  policy_.network = true;
  for (const auto& [family, type] : kFamilies) {
    const bool allowed = family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
    EXPECT_EQ(Confined({"socket", std::to_string(family), std::to_string(type)}),
              allowed ? kSucceeded : Refused(EACCES))
        << family;
  }
}

TEST_P(WorkerNetwork, AllowedNetlinkIsRoutingOnly) {
  policy_.network = true;
  const std::string netlink = std::to_string(AF_NETLINK);
  EXPECT_EQ(Confined({"socket", netlink, "3", std::to_string(NETLINK_ROUTE)}), kSucceeded);
  for (const int protocol : {NETLINK_SOCK_DIAG, NETLINK_NETFILTER, NETLINK_KOBJECT_UEVENT}) {
    EXPECT_EQ(Confined({"socket", netlink, "3", std::to_string(protocol)}), Refused(EACCES));
  }
  ExpectDenied(Refused(EACCES), {"socket", netlink, "3", std::to_string(NETLINK_KOBJECT_UEVENT)});
}

// The loopback interface of a network namespace of its own, in which there is nobody else.
TEST_P(WorkerNetwork, RunnerOfADaemonHasALoopbackOfItsOwn) {
  policy_.runs_daemon = true;
  if (!root()) {  // no namespaces then: it would be the machine's network
    EXPECT_EQ(Confined({"socket", std::to_string(AF_INET), "1"}).error, kNotStarted);
    return;
  }
  for (const auto& [family, type] : kFamilies) {
    const bool allowed = family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
    EXPECT_EQ(Confined({"socket", std::to_string(family), std::to_string(type)}),
              allowed ? kSucceeded : Refused(EACCES))
        << family;
  }
  const std::string port = Listen();
  ExpectDenied(Refused(ECONNREFUSED), {"tcp-connect", port});
  EXPECT_EQ(Confined({"tcp-connect-here"}), kSucceeded);
  EXPECT_EQ(Confined({"fast-open", port}), Refused(EACCES));
}

INSTANTIATE_TEST_SUITE_P(As, WorkerNetwork,
                         testing::Values(SupervisorIs::kRoot, SupervisorIs::kUser), SupervisorName);

}  // namespace
}  // namespace tlsbroker
