// SPDX-License-Identifier: Apache-2.0
// How a handshaker handles the supervisor's answers to its requests for a connection.

#include "broker/handshaker/connector.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "protocol/service_messages.h"
#include "tests/unit/loop.h"

namespace tlsbroker {
namespace {

using std::chrono::milliseconds;

class ConnectorTest : public testing::Test {
 protected:
  ConnectorTest() {
    connector_.Use([this](const supervision::Connect& message) {
      asked_.push_back(message);
      return has_room_;
    });
  }
  void Connect(uint16_t upstream, milliseconds time) {
    asio::co_spawn(io_, connector_.Connect(upstream, Connector::Clock::now() + time),
                   [this](const std::exception_ptr& thrown, Connector::Outcome outcome) {
                     EXPECT_FALSE(thrown);
                     outcome_ = std::move(outcome);
                   });
    io_.poll();
    io_.restart();
  }
  void Run() {
    io_.run_for(std::chrono::seconds(10));
    ASSERT_TRUE(outcome_);
  }
  // A TCP socket that is being connected to an address; `to_a_listener`: somebody listens there.
  UniqueFd Connecting(bool to_a_listener) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(to_a_listener ? listen(listener.get(), 1) : 0, 0);
    getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)connect(socket.get(), reinterpret_cast<sockaddr*>(&address), size);
    listener_ = std::move(listener);
    return socket;
  }

  asio::io_context io_;
  Connector connector_;
  std::vector<supervision::Connect> asked_;
  bool has_room_ = true;
  std::optional<Connector::Outcome> outcome_;
  UniqueFd listener_;
};

TEST_F(ConnectorTest, Connects) {
  Connect(7, milliseconds(10'000));
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(asked_[0].upstream_id, 7);
  connector_.OnConnected({asked_[0].request, 0, Connecting(true)});
  Run();
  EXPECT_EQ(outcome_->error, 0);
  EXPECT_TRUE(outcome_->socket.valid());
}

TEST_F(ConnectorTest, SaysWhyNot) {
  Connect(7, milliseconds(10'000));
  connector_.OnConnected({asked_[0].request, EINVAL, UniqueFd()});
  Run();
  EXPECT_EQ(outcome_->error, EINVAL);
}

TEST_F(ConnectorTest, HearsOfARefusal) {
  Connect(7, milliseconds(10'000));
  connector_.OnConnected({asked_[0].request, 0, Connecting(false)});
  Run();
  EXPECT_EQ(outcome_->error, ECONNREFUSED);
  EXPECT_FALSE(outcome_->socket.valid());
}

TEST_F(ConnectorTest, DoesNotWaitForEver) {
  Connect(7, milliseconds(20));
  Run();
  EXPECT_EQ(outcome_->error, ETIMEDOUT);
  connector_.OnConnected({asked_[0].request, 0, Connecting(true)});  // comes too late and is closed
}

TEST_F(ConnectorTest, WithoutRoomForTheRequest) {
  has_room_ = false;
  Connect(7, milliseconds(10'000));
  Run();
  EXPECT_EQ(outcome_->error, EAGAIN);
}

TEST_F(ConnectorTest, EachAnswerIsForItsRequest) {
  Connect(1, milliseconds(10'000));
  Connect(2, milliseconds(10'000));
  ASSERT_EQ(asked_.size(), 2U);
  EXPECT_NE(asked_[0].request, asked_[1].request);
  connector_.OnConnected({asked_[1].request + 100, EPERM, UniqueFd()});  // answers no request
  connector_.OnConnected({asked_[1].request, EACCES, UniqueFd()});
  testlib::RunAllThatIsReady(io_);
  ASSERT_TRUE(outcome_);
  EXPECT_EQ(outcome_->error, EACCES);
  outcome_.reset();
  io_.restart();
  connector_.OnConnected({asked_[0].request, ENOENT, UniqueFd()});
  Run();
  EXPECT_EQ(outcome_->error, ENOENT);
}

}  // namespace
}  // namespace tlsbroker
