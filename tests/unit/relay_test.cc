// SPDX-License-Identifier: Apache-2.0
// Both directions of a relayed connection, and its ends: those that are authenticated, and those
// that only stop.

#include "broker/handshaker/relay.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <string>

#include "broker/handshaker/ticket_keys.h"
#include "protocol/channel.h"
#include "tests/unit/handshaker.h"
#include "tests/unit/loop.h"

namespace tlsbroker {
namespace {

std::pair<UniqueFd, UniqueFd> Streams() {
  std::array<int, 2> ends;
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class RelayTest : public testing::TestWithParam<int> {
 protected:
  explicit RelayTest(size_t tickets = 0) {
    signal(SIGPIPE, SIG_IGN);  // as in the handshaker
    SSL_CTX_use_certificate(context_.get(), identity_.certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), identity_.key.get());
    SSL_CTX_set_max_proto_version(context_.get(), GetParam());
    SSL_CTX_set_num_tickets(context_.get(), tickets);
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_set_app_data(context_.get(), &tickets_);
    SSL_CTX_sess_set_new_cb(
        context_.get(), +[](SSL* ssl, SSL_SESSION*) {
          ++*static_cast<int*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
          return 0;
        });
    ticket_sealer_.Set({.keys = {supervision::TicketKey{}}, .sealing = {}});
    ticket_sealer_.Attach(context_.get());
    SslPtr server(SSL_new(context_.get()));
    SSL_set_num_tickets(server.get(), 0);  // as where the kernel's TLS does not come into question
    client_.reset(SSL_new(context_.get()));
    SSL_set_fd(server.get(), wire_.first.get());
    SSL_set_fd(client_.get(), wire_.second.get());
    SSL_set_accept_state(server.get());
    SSL_set_connect_state(client_.get());
    for (int i = 0; i < 4; ++i) {
      SSL_do_handshake(client_.get());
      SSL_do_handshake(server.get());
    }
    EXPECT_EQ(SSL_is_init_finished(server.get()), 1);
    EXPECT_EQ(SSL_is_init_finished(client_.get()), 1);
    std::make_shared<Relay>(
        handshaker_.shared, AsyncFd(handshaker_.io.get_executor(), std::move(wire_.first)),
        std::move(server), Sealer::kOpenssl,
        AsyncFd(handshaker_.io.get_executor(), std::move(pair_.first)), Admission::Place())
        ->Start();
    Run();
  }

  void Run() { testlib::RunAllThatIsReady(handshaker_.io); }
  void ClientWrites(const std::string& text) {
    EXPECT_EQ(SSL_write(client_.get(), text.data(), static_cast<int>(text.size())),
              static_cast<int>(text.size()));
    Run();
  }
  std::string ClientReads() {
    std::array<char, 4096> buffer;
    ERR_clear_error();
    const int n = SSL_read(client_.get(), buffer.data(), buffer.size());
    error_ = SSL_get_error(client_.get(), n);
    return n > 0 ? std::string(buffer.data(), static_cast<size_t>(n)) : "";
  }
  void WorkerWrites(const std::string& text) {
    EXPECT_EQ(send(worker(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    Run();
  }
  // What the worker reads next: "end" for the end of the file, or the number of an error.
  std::string WorkerReads() {
    std::array<char, 4096> buffer;
    const ssize_t n = recv(worker(), buffer.data(), buffer.size(), 0);
    if (n < 0) return std::to_string(errno);
    return n == 0 ? "end" : std::string(buffer.data(), static_cast<size_t>(n));
  }
  int worker() const { return pair_.second.get(); }
  bool over() const { return handshaker_.shared.counters.relay_active == 0; }

  testlib::Handshaker handshaker_{1};
  testlib::Identity identity_{"P-256"};
  int tickets_ = 0;  // that the client has got
  TicketSealer ticket_sealer_;
  SslCtxPtr context_{SSL_CTX_new(TLS_method())};
  std::pair<UniqueFd, UniqueFd> wire_ = Streams();
  std::pair<UniqueFd, UniqueFd> pair_ = Streams();
  SslPtr client_;
  int error_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Versions, RelayTest, testing::Values(TLS1_3_VERSION, TLS1_2_VERSION),
                         [](const auto& version) {
                           return version.param == TLS1_3_VERSION ? "Tls13" : "Tls12";
                         });

TEST_P(RelayTest, BothWaysAndBothEnds) {
  ClientWrites("ask");
  EXPECT_EQ(WorkerReads(), "ask");
  WorkerWrites("answer");
  EXPECT_EQ(ClientReads(), "answer");
  SSL_shutdown(client_.get());
  Run();
  EXPECT_EQ(WorkerReads(), "end");
  WorkerWrites("rest");  // the other direction goes on
  EXPECT_EQ(ClientReads(), "rest");
  EXPECT_EQ(channel::SendEnd(worker()), channel::Result::kOk);
  Run();
  ClientReads();
  EXPECT_EQ(error_, SSL_ERROR_ZERO_RETURN) << "close_notify";
  EXPECT_FALSE(over());
  pair_.second.Reset();
  Run();
  EXPECT_TRUE(over());
}

// The worker sends no END: the client has only a part, and must not take it for the whole.
TEST_P(RelayTest, AWorkerThatOnlyStops) {
  WorkerWrites("a part");
  pair_.second.Reset();
  Run();
  EXPECT_EQ(ClientReads(), "a part");
  ClientReads();
  EXPECT_EQ(error_, SSL_ERROR_SSL);
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_last_error()), GetParam() == TLS1_3_VERSION
                                                       ? SSL_R_TLSV1_ALERT_INTERNAL_ERROR
                                                       : SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
  EXPECT_TRUE(over());
}

// The client sends no close_notify: the worker gets what came before, and a cut.
TEST_P(RelayTest, AClientThatOnlyStops) {
  ClientWrites("a part");
  wire_.second.Reset();
  Run();
  EXPECT_EQ(WorkerReads(), "a part");
  EXPECT_TRUE(over());
  EXPECT_LT(send(worker(), "x", 1, MSG_NOSIGNAL), 0) << "closed, not shut down in one direction";
}

TEST_P(RelayTest, WhatIsNotAuthentic) {
  ClientWrites("good");
  const std::string record = std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x');
  send(wire_.second.get(), record.data(), record.size(), 0);
  Run();
  EXPECT_EQ(WorkerReads(), "good");
  EXPECT_TRUE(over());
  ClientReads();
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
}

// The peer has the time to read the alert: it is not reset, although it goes on sending.
TEST_P(RelayTest, TheConnectionEndsBehindTheAlert) {
  pair_.second.Reset();
  Run();
  EXPECT_TRUE(over());
  EXPECT_EQ(send(wire_.second.get(), "more", 4, MSG_NOSIGNAL), 4) << "still open";
  std::array<char, 4096> alert;
  EXPECT_GT(recv(wire_.second.get(), alert.data(), alert.size(), 0), 0);
  EXPECT_EQ(recv(wire_.second.get(), alert.data(), alert.size(), 0), 0) << "FIN";
  wire_.second.Reset();
  Run();
  EXPECT_EQ(handshaker_.shared.connections_active, 0U);
}

// The client has ended and closed, with something of ours unread: a reset. What it said before is
// the worker's, however slow the worker is.
TEST_P(RelayTest, AClientThatClosesBehindItsEnd) {
  const std::string piece(16'000, 'p');
  size_t written = 0;
  while (SSL_write(client_.get(), piece.data(), static_cast<int>(piece.size())) > 0)
    written += piece.size();
  const int size = 1 << 22;
  setsockopt(wire_.second.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
  while (SSL_write(client_.get(), piece.data(), static_cast<int>(piece.size())) <= 0) Run();
  written += piece.size();
  SSL_shutdown(client_.get());
  WorkerWrites("unread");
  wire_.second.Reset();
  Run();
  WorkerWrites("nobody reads this");
  size_t read = 0;
  std::string got = WorkerReads();
  for (; got.starts_with('p'); got = WorkerReads(), Run()) read += got.size();
  EXPECT_EQ(read, written);
  EXPECT_EQ(got, "end");
  pollfd p{worker(), 0, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0) << "the end is authenticated: only the peer's direction is shut";
  EXPECT_FALSE(over());
  pair_.second.Reset();
  Run();
  EXPECT_TRUE(over());
}

TEST_P(RelayTest, AWorkerThatWritesToNobodyNowAndThen) {
  SSL_shutdown(client_.get());
  wire_.second.Reset();
  EXPECT_TRUE(testlib::RunUntil(handshaker_.io, [this] {
    return send(worker(), "w", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE;
  }));
  EXPECT_TRUE(over());
}

// The client has said more than there is room for, has not ended, and is gone.
TEST_P(RelayTest, AWorkerThatWritesToNobodyAndDoesNotRead) {
  const std::string piece(64 * 1024, 'w');
  while (SSL_write(client_.get(), piece.data(), 16'000) > 0) Run();
  WorkerWrites("unread");
  wire_.second.Reset();
  ssize_t n = 1;
  for (size_t all = 0; all < 4 * kMaxDropped && n > 0; all += piece.size()) {
    n = send(worker(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    Run();
  }
  EXPECT_TRUE(n < 0 && errno == EPIPE);
  EXPECT_TRUE(over());
}

TEST_P(RelayTest, AWorkerThatWritesToNobody) {
  SSL_shutdown(client_.get());
  wire_.second.Reset();
  const std::string piece(64 * 1024, 'w');
  ssize_t n = 1;
  for (size_t all = 0; all < 4 * kMaxDropped && n > 0; all += piece.size()) {
    n = send(worker(), piece.data(), piece.size(), MSG_NOSIGNAL);
    Run();
  }
  EXPECT_TRUE(n < 0 && errno == EPIPE) << "it learns of it, if late";
  EXPECT_TRUE(over());
}

TEST_P(RelayTest, AWorkerThatDoesNotRead) {
  const std::string piece(16'000, 'p');
  size_t written = 0;
  for (int n = 1; n > 0; written += n > 0 ? piece.size() : 0) {
    n = SSL_write(client_.get(), piece.data(), static_cast<int>(piece.size()));
    Run();
  }
  EXPECT_LT(written, 4'000'000U) << "the client waits, not the broker's memory";
  WorkerWrites("the other direction goes on");
  EXPECT_EQ(ClientReads(), "the other direction goes on");
  size_t read = 0;
  for (std::string got = WorkerReads(); got.starts_with('p'); got = WorkerReads(), Run()) {
    read += got.size();
  }
  EXPECT_GE(read + piece.size(), written);
}

using RelayTls13Test = RelayTest;
INSTANTIATE_TEST_SUITE_P(Version, RelayTls13Test, testing::Values(TLS1_3_VERSION));

TEST_P(RelayTls13Test, TooManyKeyUpdates) {
  for (int i = 0; i <= kMaxKeyUpdatesPerSecond; ++i) {
    EXPECT_FALSE(over());
    SSL_key_update(client_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    ClientWrites("x");
  }
  EXPECT_TRUE(over());
  ClientReads();
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
}

// The answer to the last one is still to be sent.
TEST_P(RelayTls13Test, TooManyKeyUpdatesWithAnswers) {
  for (int i = 0; i <= kMaxKeyUpdatesPerSecond; ++i) {
    EXPECT_FALSE(over());
    SSL_key_update(client_.get(), SSL_KEY_UPDATE_REQUESTED);
    ClientWrites("x");
  }
  EXPECT_TRUE(over());
  ClientReads();
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
}

class RelayTicketTest : public RelayTest {
 protected:
  RelayTicketTest() : RelayTest(2) {}

  // Whether the client gets anything in twice the time of silence.
  bool Come() {
    return testlib::RunUntil(
        handshaker_.io,
        [this] {
          char byte;
          return recv(wire_.second.get(), &byte, 1, MSG_PEEK) >= 0;
        },
        2 * kTicketSilence);
  }
};
INSTANTIATE_TEST_SUITE_P(Version, RelayTicketTest, testing::Values(TLS1_3_VERSION));

TEST_P(RelayTicketTest, ComeWithTheWorkersFirstBytes) {
  ClientWrites("ask");
  std::array<char, 1> byte;
  EXPECT_EQ(recv(wire_.second.get(), byte.data(), 1, MSG_PEEK), -1) << "nothing to read so far";
  WorkerWrites("answer");
  EXPECT_EQ(ClientReads(), "answer");
  EXPECT_EQ(tickets_, 2);
}

TEST_P(RelayTicketTest, ComeWithTheWorkersEnd) {
  EXPECT_EQ(channel::SendEnd(worker()), channel::Result::kOk);
  Run();
  ClientReads();
  EXPECT_EQ(error_, SSL_ERROR_ZERO_RETURN);
  EXPECT_EQ(tickets_, 2);
}

TEST_P(RelayTicketTest, ComeInSilence) {
  ClientWrites("ask");
  EXPECT_TRUE(testlib::RunUntil(handshaker_.io, [this] {
    ClientReads();
    return tickets_ == 2;
  }));
  WorkerWrites("answer");
  EXPECT_EQ(ClientReads(), "answer");
  EXPECT_EQ(tickets_, 2);
}

// The relay has not read all of what the client has said so far.
TEST_P(RelayTicketTest, DoNotComeBeforeTheWorkerHasTakenAll) {
  const std::string piece(16384, 'x');
  size_t said = 0;
  while (SSL_write(client_.get(), piece.data(), static_cast<int>(piece.size())) > 0) {
    said += piece.size();
    Run();
  }
  EXPECT_FALSE(Come());
  // The client has to finish the record that it has begun.
  bool finished = false;
  size_t taken = 0;
  while (taken < said + piece.size()) {
    finished =
        finished || SSL_write(client_.get(), piece.data(), static_cast<int>(piece.size())) > 0;
    Run();
    taken += WorkerReads().size();
  }
  EXPECT_TRUE(finished);
  EXPECT_TRUE(Come());
}

TEST_P(RelayTicketTest, DoNotComeInTheMiddleOfARecord) {
  SSL_set0_wbio(client_.get(), BIO_new(BIO_s_mem()));
  ClientWrites("a slow one");
  std::array<char, 256> record;
  const int size = BIO_read(SSL_get_wbio(client_.get()), record.data(), record.size());
  ASSERT_GT(size, 20);
  EXPECT_EQ(send(wire_.second.get(), record.data(), 20, 0), 20);
  EXPECT_FALSE(Come());
  EXPECT_EQ(send(wire_.second.get(), record.data() + 20, static_cast<size_t>(size) - 20, 0),
            size - 20);
  Run();
  EXPECT_EQ(WorkerReads(), "a slow one");
  EXPECT_TRUE(Come());
}

TEST_P(RelayTicketTest, DoNotComeToWhoHasEnded) {
  ClientWrites("all");
  SSL_shutdown(client_.get());
  EXPECT_FALSE(Come());
  EXPECT_EQ(WorkerReads(), "all");
  EXPECT_EQ(WorkerReads(), "end");
}

}  // namespace
}  // namespace tlsbroker
