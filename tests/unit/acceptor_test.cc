// SPDX-License-Identifier: Apache-2.0
// When a handshaker accepts connections, and when it does not. No handshake is allowed here, so
// each accepted connection is closed at once; it is counted all the same.

#include "broker/handshaker/acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <chrono>
#include <vector>

#include "protocol/channel.h"
#include "tests/unit/handshaker.h"
#include "tests/unit/loop.h"

namespace tlsbroker {
namespace {

using std::chrono::milliseconds;

class AcceptorTest : public testing::Test {
 protected:
  AcceptorTest() {
    bind(listening_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
    listen(listening_.get(), 100);
    GetAddress();
    acceptor_.emplace(shared_, Listener{service_}, UniqueFd(dup(listening_.get())));
  }
  ~AcceptorTest() override {
    acceptor_->Stop();
    Run();
  }

  void GetAddress() {
    socklen_t size = sizeof(address_);
    getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address_), &size);
  }
  void Begin() {
    asio::co_spawn(handshaker_.io, acceptor_->Run(), asio::detached);
    Run();
  }
  void Run() { testlib::RunAllThatIsReady(handshaker_.io); }
  // Runs the event loop for this time; returns how many handlers ran.
  size_t RunFor(milliseconds time) {
    handshaker_.io.restart();
    return handshaker_.io.run_for(time);
  }
  bool RunUntilAccepted(uint64_t count) {
    return testlib::RunUntil(handshaker_.io, [&] { return accepted() == count; });
  }
  // Connects to the listener; returns 0 or an error number.
  int Connect() {
    clients_.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* to = reinterpret_cast<const sockaddr*>(&address_);
    return connect(clients_.back().get(), to, sizeof(address_)) == 0 ? 0 : errno;
  }
  uint64_t accepted() const { return shared_.counters.accepted; }

  testlib::Handshaker handshaker_{0};
  Shared& shared_ = handshaker_.shared;
  std::pair<UniqueFd, UniqueFd> queue_ = channel::MakePair();
  std::pair<UniqueFd, UniqueFd> requests_ = channel::MakePair();
  Service service_{
      "s",
      supervision::ServiceTerms(),
      nullptr,
      QueueSender(handshaker_.io.get_executor(), std::move(queue_.first), shared_.counters),
      AsyncFd(handshaker_.io.get_executor(), std::move(requests_.first)),
      ""};
  sockaddr_in address_{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  UniqueFd listening_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::optional<Acceptor> acceptor_;
  std::vector<UniqueFd> clients_;
};

TEST_F(AcceptorTest, AcceptsThoseBeforeAndAfter) {
  for (int i = 0; i < 20; ++i) ASSERT_EQ(Connect(), 0);
  Begin();
  EXPECT_EQ(accepted(), 20U);
  ASSERT_EQ(Connect(), 0);
  Run();
  EXPECT_EQ(accepted(), 21U);
  char byte;
  EXPECT_EQ(recv(clients_.back().get(), &byte, 1, 0), 0) << "beyond the limit: closed";
}

TEST_F(AcceptorTest, StopsWhileItWaits) {
  Begin();
  acceptor_->Stop();
  listening_.Reset();
  Run();
  EXPECT_EQ(Connect(), ECONNREFUSED) << "nobody has the listener any more";
  EXPECT_EQ(accepted(), 0U);
}

// The listener's flags and options are shared, and a handshaker before this one may have changed
// them.
TEST_F(AcceptorTest, AListenerThatWasMadeBlocking) {
  EXPECT_NE(fcntl(listening_.get(), F_GETFL) & O_NONBLOCK, 0);
  Begin();  // would wait here for ever
}

TEST_F(AcceptorTest, WhileTheQueueIsFullClientsWaitInTheBacklog) {
  int handed_off = 0;
  const auto fill = [&]() -> asio::awaitable<void> {
    handoff::Description description;
    description.service = "s";
    while (co_await service_.queue.HandOff(description, UniqueFd(dup(0)))) ++handed_off;
  };
  asio::co_spawn(handshaker_.io, fill(), asio::detached);
  Run();
  ASSERT_GT(handed_off, 0);
  ASSERT_EQ(Connect(), 0);
  Begin();
  EXPECT_EQ(accepted(), 0U);
  queue_.second.Reset();  // the workers are gone, so nobody waits for room in the queue any more
  Run();
  EXPECT_EQ(accepted(), 1U);
}

TEST_F(AcceptorTest, WhoseListenerWasShutDownPauses) {
  Begin();
  shutdown(listening_.get(), SHUT_RD);
  EXPECT_LT(RunFor(milliseconds(250)), 20U) << "it does not turn round and round";
  listen(listening_.get(), 100);  // as the supervisor does
  GetAddress();                   // listen(2) has chosen another port
  ASSERT_EQ(Connect(), 0);
  EXPECT_TRUE(RunUntilAccepted(1));
}

TEST_F(AcceptorTest, WithoutDescriptorsItPauses) {
  Begin();
  ASSERT_EQ(Connect(), 0);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  EXPECT_LT(RunFor(milliseconds(250)), 20U);
  EXPECT_EQ(accepted(), 0U);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(RunUntilAccepted(1));
}

}  // namespace
}  // namespace tlsbroker
