// SPDX-License-Identifier: Apache-2.0
// libtlsbroker on a relay or bridge stream: ends of both directions are recognized, and nothing
// else ever looks like an end. The test plays the broker's side of PROTOCOL.md section 3.2.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

#include "tests/unit/client_pair.h"

namespace tlsbroker {
namespace {

using std::chrono::steady_clock;

class ClientStream : public ClientTest {
 protected:
  ClientStream() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    broker_.Reset(fds[0]);
    worker_ = HandOff(UniqueFd(fds[1]), SomeDescription(handoff::Mode::kRelay));
  }
  ~ClientStream() override {
    worker_.Abort();
    broker_.Reset();
  }

  void BrokerSends(std::string_view text) {
    ASSERT_EQ(send(broker_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  ssize_t Read() { return worker_.Read(buffer_.data(), buffer_.size()); }

  // Everything that the worker wrote: its data, then "END", "abort" or "more".
  std::string BrokerSees() {
    std::string seen;
    std::array<uint8_t, 4096> buffer;
    for (;;) {
      channel::StreamRead read;
      switch (channel::ReceiveStream(broker_.get(), buffer, read)) {
        case channel::Result::kOk:
          break;
        case channel::Result::kWouldBlock:
          return seen + "|more";
        default:
          return seen + "|abort";
      }
      seen.append(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(read.size));
      if (read.end) return seen + "|END";
    }
  }

  // Writes until there is no room at all.
  size_t FillTowardsBroker() {
    EXPECT_EQ(worker_.SetNonblocking(true), 0);
    const std::string block(1000, 'x');
    size_t total = 0;
    for (ssize_t n; (n = worker_.Write(block)) > 0;) total += static_cast<size_t>(n);
    return total;
  }

  UniqueFd broker_;
  Connection worker_;
  std::array<char, 100> buffer_;
};

// ---- Reading

TEST_F(ClientStream, ReadsDataThenTheAuthenticatedEnd) {
  BrokerSends("data");
  shutdown(broker_.get(), SHUT_WR);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), 0);
  EXPECT_EQ(Read(), 0);
}

TEST_F(ClientStream, ReadingWaitsAsTheSocketIsSet) {
  const timeval limit = {0, 1000};
  ASSERT_EQ(setsockopt(worker_.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
  EXPECT_EQ(Read(), -EAGAIN);
  BrokerSends("data");
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(worker_.SetNonblocking(true), 0);
  EXPECT_EQ(Read(), -EAGAIN);
}

TEST_F(ClientStream, WritesAfterThePeersEnd) {
  shutdown(broker_.get(), SHUT_WR);
  EXPECT_EQ(Read(), 0);
  EXPECT_EQ(worker_.Write("answer"), 6);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(BrokerSees(), "answer|END");
}

TEST_F(ClientStream, ReadsDataThenTheCut) {
  BrokerSends("data");
  broker_.Reset();
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
  EXPECT_EQ(worker_.Write("x"), -EPIPE);
  EXPECT_EQ(worker_.EndWrite(), -EPIPE);
  EXPECT_EQ(worker_.Close(), TLSBROKER_E_TRUNCATED);
}

// In this case af_unix reports ECONNRESET, where otherwise it reports 0.
TEST_F(ClientStream, ACutWithUnreadDataIsACut) {
  EXPECT_EQ(worker_.Write("never read"), 10);
  BrokerSends("data");
  broker_.Reset();
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
}

TEST_F(ClientStream, ACutAfterOurOwnEndIsACut) {
  EXPECT_EQ(worker_.EndWrite(), 0);
  broker_.Reset();
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
}

TEST_F(ClientStream, AnEndThatWasReadStaysAnEnd) {
  shutdown(broker_.get(), SHUT_WR);
  EXPECT_EQ(Read(), 0);
  broker_.Reset();
  EXPECT_EQ(Read(), 0);
}

TEST_F(ClientStream, ReadsWithoutBlockingWhenAsked) {
  EXPECT_EQ(worker_.SetNonblocking(true), 0);
  EXPECT_EQ(Read(), -EAGAIN);
  BrokerSends("x");
  EXPECT_EQ(Read(), 1);
  EXPECT_EQ(worker_.Read(buffer_.data(), 0), -EINVAL);
}

TEST_F(ClientStream, ReadSurvivesSignals) {
  struct sigaction action {};
  action.sa_handler = [](int) {};  // without SA_RESTART
  struct sigaction before;
  sigaction(SIGCHLD, &action, &before);
  const pid_t child = fork();
  if (child == 0) {
    // By then the parent is in read(); if not, the signal comes too early and the test shows less.
    usleep(50'000);
    kill(getppid(), SIGCHLD);
    usleep(50'000);
    _exit(send(broker_.get(), "x", 1, 0) == 1 ? 0 : 1);
  }
  EXPECT_EQ(Read(), 1);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  sigaction(SIGCHLD, &before, nullptr);
}

// ---- Ending

TEST_F(ClientStream, EndIsExplicitAndReadingGoesOn) {
  EXPECT_EQ(worker_.Write("request"), 7);
  EXPECT_EQ(worker_.EndWrite(), 0);
  EXPECT_EQ(worker_.EndWrite(), 0);
  EXPECT_EQ(worker_.Write("x"), -EPIPE);
  EXPECT_EQ(worker_.SendFile(0, nullptr, 1), -EPIPE);
  EXPECT_EQ(BrokerSees(), "request|END");
  EXPECT_EQ(BrokerSees(), "|more") << "END came once, and nothing was shut down";
  BrokerSends("answer");
  shutdown(broker_.get(), SHUT_WR);
  EXPECT_EQ(Read(), 6);
  EXPECT_EQ(Read(), 0);
}

TEST_F(ClientStream, CloseEnds) {
  EXPECT_EQ(worker_.Write("all"), 3);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_FALSE(worker_);
  EXPECT_EQ(BrokerSees(), "all|END");
  EXPECT_EQ(BrokerSees(), "|abort") << "then the descriptor is closed";
}

TEST_F(ClientStream, CloseEndsAlsoWithUnreadData) {
  BrokerSends("unread");
  EXPECT_EQ(worker_.Write("all"), 3);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(BrokerSees(), "all|END");
}

TEST_F(ClientStream, AbortDoesNotEnd) {
  EXPECT_EQ(worker_.Write("some"), 4);
  worker_.Abort();
  EXPECT_EQ(BrokerSees(), "some|abort");
}

TEST_F(ClientStream, ScopeExitDoesNotEnd) {
  { Connection gone = std::move(worker_); }
  EXPECT_EQ(BrokerSees(), "|abort");
}

TEST_F(ClientStream, AKilledWorkerDoesNotEnd) {
  const pid_t child = fork();
  if (child == 0) {
    tlsbroker_write(worker_.get(), "some", 4, 0);
    kill(getpid(), SIGKILL);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  worker_.Abort();  // closes this process' copy
  EXPECT_EQ(BrokerSees(), "some|abort");
}

// ---- When there is no room

TEST_F(ClientStream, EndWaitsForRoomInNonBlockingMode) {
  const size_t written = FillTowardsBroker();
  EXPECT_EQ(worker_.EndWrite(), -EAGAIN);
  EXPECT_EQ(worker_.Write("x"), -EAGAIN) << "a failed end ends nothing";
  const std::string seen = BrokerSees();
  EXPECT_EQ(seen.size(), written + sizeof("|more") - 1);
  EXPECT_EQ(worker_.EndWrite(), 0);
  EXPECT_EQ(BrokerSees(), "|END");
}

TEST_F(ClientStream, CloseGivesUpInTimeAndThePeerSeesIt) {
  FillTowardsBroker();
  worker_.SetNonblocking(false);  // close limits its time in either mode
  const auto start = steady_clock::now();
  EXPECT_EQ(worker_.Close(150), -ETIMEDOUT);
  const auto took = steady_clock::now() - start;
  EXPECT_GE(took, std::chrono::milliseconds(150));
  EXPECT_LT(took, std::chrono::seconds(10));
  EXPECT_TRUE(BrokerSees().ends_with("|abort"));
}

TEST_F(ClientStream, CloseWithoutWaitingGivesUpAtOnce) {
  FillTowardsBroker();
  EXPECT_EQ(worker_.Close(0), -ETIMEDOUT);
  EXPECT_TRUE(BrokerSees().ends_with("|abort"));
}

TEST_F(ClientStream, CloseWaitsForRoom) {
  const size_t written = FillTowardsBroker();
  const pid_t child = fork();
  if (child == 0) {
    worker_.Abort();
    usleep(50'000);
    _exit(BrokerSees().size() >= written ? 0 : 1);
  }
  EXPECT_EQ(worker_.Close(10'000), 0);
  int status;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- Writing

TEST_F(ClientStream, SendsFiles) {
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  off_t offset = 1;  // after the 0x7f
  EXPECT_EQ(worker_.SendFile(file.get(), &offset, 3), 3);
  EXPECT_EQ(offset, 4);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(BrokerSees(), "ELF|END");
}

TEST_F(ClientStream, WritesManyPartsAndKnowsItsFlags) {
  std::string a = "a", b = "bc";
  const iovec parts[] = {{a.data(), a.size()}, {b.data(), b.size()}};
  EXPECT_EQ(worker_.Writev(parts, 2, TLSBROKER_MORE), 3);
  EXPECT_EQ(worker_.Writev(parts, 2, 0x8000), -EINVAL);
  EXPECT_EQ(worker_.Writev(parts, -1), -EINVAL);
  EXPECT_EQ(BrokerSees(), "abc|more");
}

TEST_F(ClientStream, NeverRaisesSigpipe) {
  broker_.Reset();
  EXPECT_EQ(worker_.Write("x"), -EPIPE);
  EXPECT_EQ(worker_.EndWrite(), -EPIPE);
  EXPECT_EQ(worker_.Close(), -EPIPE);
}

TEST(ClientHandles, NullIsNoHandle) {
  EXPECT_EQ(tlsbroker_close(nullptr, -1), 0);
  tlsbroker_abort(nullptr);
  tlsbroker_queue_free(nullptr);
}

}  // namespace
}  // namespace tlsbroker
