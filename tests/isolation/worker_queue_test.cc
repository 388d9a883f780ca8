// SPDX-License-Identifier: Apache-2.0
// A confined worker and the queue that it shares with the other workers of its service: it takes
// connections, and cannot copy connections that other workers are to get.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/channel.h"
#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerQueue : public WorkerTest {
 protected:
  // The attacker gets the queue in the place of a connection. One connection waits in it: here the
  // end of a pipe.
  void SetUp() override {
    WorkerTest::SetUp();
    if (IsSkipped()) return;
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_.Reset(ends[0]);
    const UniqueFd waits(ends[1]);
    auto [sending, receiving] = channel::MakePair();
    sending_ = std::move(sending);
    // One-way, as broker/supervisor/queue.cc makes the queue.
    ASSERT_EQ(shutdown(sending_.get(), SHUT_RD), 0);
    const uint8_t byte = 1;
    const int fd = waits.get();
    ASSERT_EQ(channel::Send(sending_.get(), {&byte, 1}, {&fd, 1}), channel::Result::kOk);
    connection_ = UniqueFd(fcntl(receiving.get(), F_DUPFD_CLOEXEC, 10));
  }

  // Registers with MSG_PEEK alone, with other flags, and with bits that the kernel ignores.
  static std::vector<std::string> Peeks() {
    constexpr uint64_t kFlags[] = {MSG_PEEK, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC,
                                   MSG_PEEK | 1ULL << 32, MSG_PEEK | 0xffffffffULL << 32};
    std::vector<std::string> peeks;
    for (const uint64_t flags : kFlags) peeks.push_back(std::to_string(flags));
    return peeks;
  }

  UniqueFd read_, sending_;
};

TEST_P(WorkerQueue, Peek) {
  for (const std::string& peek : Peeks()) ExpectDenied(Refused(EPERM), {"queue-recvmsg", peek});
}

TEST_P(WorkerQueue, PeekAtSeveral) {
  for (const std::string& peek : Peeks()) ExpectDenied(Refused(EPERM), {"queue-recvmmsg", peek});
}

TEST_P(WorkerQueue, PeekByIoUring) { ExpectDenied(Refused(EPERM), {"io-uring-peek"}); }

// Programs look at their connections in this way, so it stays allowed.
TEST_P(WorkerQueue, PeekWithoutRoomForDescriptors) {
  EXPECT_EQ(Confined({"queue-recvfrom", std::to_string(MSG_PEEK)}), kSucceeded);
}

TEST_P(WorkerQueue, Take) {
  EXPECT_EQ(Confined({"queue-recvmsg", std::to_string(MSG_CMSG_CLOEXEC)}), kSucceeded);
  EXPECT_EQ(Confined({"queue-recvmsg", std::to_string(MSG_DONTWAIT)}), Refused(EAGAIN)) << "once";
}

// Here the kernel refuses, for confined and unconfined processes.
TEST_P(WorkerQueue, Write) { EXPECT_EQ(Confined({"send"}), Refused(EPIPE)); }

INSTANTIATE_TEST_SUITE_P(As, WorkerQueue,
                         testing::Values(SupervisorIs::kRoot, SupervisorIs::kUser,
                                         SupervisorIs::kRootAndStrict),
                         SupervisorName);

}  // namespace
}  // namespace tlsbroker
