// SPDX-License-Identifier: Apache-2.0
// The queue holds exactly as many connections as the backlog says. A worker can only read from it,
// and at worst end it, for its own service.

#include <gtest/gtest.h>
#include <sys/capability.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "broker/supervisor/queue.h"
#include "protocol/channel.h"
#include "protocol/handoff.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using channel::Result;

class QueueTest : public NoFdLeaks {};

Result SendOne(int socket) {
  const std::vector<uint8_t> description(handoff::kPaddedSize);
  const int fd = STDIN_FILENO;
  return channel::Send(socket, description, {&fd, 1}, /*dont_wait=*/true);
}

uint32_t Fill(const Queue& queue) {
  uint32_t sent = 0;
  while (SendOne(queue.sending()) == Result::kOk) ++sent;
  return sent;
}

Queue OpenQueue(uint32_t backlog) {
  auto queue = Queue::Open(backlog, "s");
  EXPECT_TRUE(queue.ok()) << queue.status();
  return *std::move(queue);
}

class QueueCapacityTest : public NoFdLeaks, public ::testing::WithParamInterface<uint32_t> {};

TEST_P(QueueCapacityTest, ExactlyTheBacklogFits) {
  const Queue queue = OpenQueue(GetParam());
  EXPECT_EQ(queue.capacity(), GetParam());
  EXPECT_EQ(Fill(queue), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Backlogs, QueueCapacityTest, ::testing::Values(4, 5, 16, 100, 256, 1000));

// The kernel's smallest send buffer, SOCK_MIN_SNDBUF, has room for more than one.
TEST_F(QueueTest, SmallestQueueIsReportedAsItIs) {
  const Queue queue = OpenQueue(1);
  EXPECT_GE(queue.capacity(), 1u);
  EXPECT_LE(queue.capacity(), 4u);
  EXPECT_EQ(Fill(queue), queue.capacity());
}

TEST_F(QueueTest, ReceivingMakesRoom) {
  const Queue queue = OpenQueue(16);
  Fill(queue);
  channel::Message message;
  ASSERT_EQ(channel::Receive(queue.receiving(), handoff::kMaxMessage, 1, message), Result::kOk);
  EXPECT_EQ(SendOne(queue.sending()), Result::kOk);
  EXPECT_EQ(SendOne(queue.sending()), Result::kWouldBlock);
}

TEST_F(QueueTest, ResizeKeepsWhatWaits) {
  Queue queue = OpenQueue(16);
  Fill(queue);
  ASSERT_TRUE(queue.Resize(32).ok());
  EXPECT_EQ(queue.capacity(), 32u);
  EXPECT_EQ(Fill(queue), 16u);
}

// Runs in a child without capabilities, where net.core.wmem_max is the limit.
TEST_F(QueueTest, WithoutCapabilityTheCapacityIsStillTrue) {
  const pid_t pid = fork();
  if (pid == 0) {
    cap_t none = cap_init();
    if (cap_set_proc(none) != 0) _exit(2);
    const auto queue = Queue::Open(65536, "s");
    if (!queue.ok()) _exit(3);
    // No more than RLIMIT_NOFILE descriptors may be under way, so these messages have none.
    const std::vector<uint8_t> description(handoff::kPaddedSize);
    uint32_t sent = 0;
    while (channel::Send(queue->sending(), description, {}, true) == Result::kOk) ++sent;
    _exit(sent == queue->capacity() && sent < 65536 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST_F(QueueTest, WorkerCannotWriteAndCannotUndoThat) {
  const Queue queue = OpenQueue(16);
  const int worker = queue.receiving();
  EXPECT_EQ(SendOne(worker), Result::kClosed);

  sockaddr_un address{};
  address.sun_family = AF_UNSPEC;
  EXPECT_NE(connect(worker, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)), 0);
  address.sun_family = AF_UNIX;
  EXPECT_NE(bind(worker, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)) == 0 &&
                listen(worker, 1) == 0,
            true);
  EXPECT_NE(connect(worker, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(SendOne(worker), Result::kClosed);

  channel::Message message;
  EXPECT_EQ(channel::Receive(queue.sending(), handoff::kMaxMessage, 1, message, true),
            Result::kClosed);
  EXPECT_FALSE(queue.Broken());
  EXPECT_EQ(SendOne(queue.sending()), Result::kOk);
}

TEST_F(QueueTest, WorkerCannotMakeTheQueueLarger) {
  const Queue queue = OpenQueue(16);
  const int large = 1 << 20;
  for (const int option : {SO_SNDBUF, SO_RCVBUF})
    setsockopt(queue.receiving(), SOL_SOCKET, option, &large, sizeof(large));
  EXPECT_EQ(Fill(queue), 16u);
}

TEST_F(QueueTest, ShutdownByAWorkerIsSeen) {
  const Queue queue = OpenQueue(16);
  EXPECT_FALSE(queue.Broken());
  ASSERT_EQ(shutdown(queue.receiving(), SHUT_RD), 0);
  EXPECT_TRUE(queue.Broken());
  EXPECT_EQ(SendOne(queue.sending()), Result::kClosed);
}

TEST_F(QueueTest, ShutdownOfTheRequestsByAWorkerIsSeen) {
  const Queue queue = OpenQueue(16);
  EXPECT_EQ(SendOne(queue.requesting()), Result::kOk);
  EXPECT_FALSE(queue.Broken());
  ASSERT_EQ(shutdown(queue.requesting(), SHUT_WR), 0);
  EXPECT_TRUE(queue.Broken());
}

TEST_F(QueueTest, WorkersReadTheRestAndThenTheEnd) {
  Queue queue = OpenQueue(16);
  ASSERT_EQ(SendOne(queue.sending()), Result::kOk);
  queue.CloseSending();
  EXPECT_EQ(SendOne(queue.sending()), Result::kError);
  channel::Message message;
  EXPECT_EQ(channel::Receive(queue.receiving(), handoff::kMaxMessage, 1, message), Result::kOk);
  EXPECT_EQ(channel::Receive(queue.receiving(), handoff::kMaxMessage, 1, message), Result::kClosed);
}

}  // namespace
}  // namespace tlsbroker::supervisor
