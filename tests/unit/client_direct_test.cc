// SPDX-License-Identifier: Apache-2.0
// libtlsbroker on a socket with kernel TLS. Skips without kernel TLS.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "tests/unit/client_pair.h"
#include "tests/unit/ktls_pair.h"

namespace tlsbroker {
namespace {

struct Pipe {
  Pipe() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    read_end.Reset(fds[0]);
    write_end.Reset(fds[1]);
  }
  UniqueFd read_end, write_end;
};

class ClientDirect : public ClientTest, public ::testing::WithParamInterface<uint16_t> {
 protected:
  void SetUp() override {
    auto [peer, worker] = TcpPair();
    peer_ = std::move(peer);
    if (!InstallKeys(peer_.get(), GetParam()) || !InstallKeys(worker.get(), GetParam())) {
      if (Expected("ktls")) FAIL() << "kernel TLS is expected here: " << strerror(errno);
      GTEST_SKIP() << "no kernel TLS: " << strerror(errno);
    }
    handoff::Description d = SomeDescription(handoff::Mode::kDirect);
    d.tls_version = tls13() ? "TLSv1.3" : "TLSv1.2";
    d.we_are_client = we_are_client();
    worker_ = HandOff(std::move(worker), d);
    ready_ = true;
  }
  ~ClientDirect() override {
    worker_.Abort();
    peer_.Reset();
  }

  virtual bool we_are_client() const { return false; }
  static bool tls13() { return GetParam() == TLS_1_3_VERSION; }

  void PeerSends(std::string_view data) {
    ASSERT_EQ(send(peer_.get(), data.data(), data.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(data.size()));
  }
  void PeerSendsAlert(uint8_t level, uint8_t number) {
    const char content[] = {static_cast<char>(level), static_cast<char>(number)};
    ASSERT_TRUE(SendRecord(peer_.get(), 21, {content, 2}));
  }

  ssize_t Read() { return worker_.Read(buffer_.data(), buffer_.size()); }

  // Everything that the peer receives: its data, then alerts as "[level number]", then "FIN" or
  // "reset".
  std::string PeerSees() {
    std::string seen;
    for (;;) {
      char data[65536];
      iovec iov{data, sizeof(data)};
      alignas(cmsghdr) char control[CMSG_SPACE(1)];
      msghdr header{};
      header.msg_iov = &iov;
      header.msg_iovlen = 1;
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
      const ssize_t n = recvmsg(peer_.get(), &header, 0);
      if (n < 0) return seen + (errno == ECONNRESET ? "reset" : strerror(errno));
      if (n == 0) return seen + "FIN";
      const cmsghdr* c = CMSG_FIRSTHDR(&header);
      if (c != nullptr && *CMSG_DATA(c) == 21 && n == 2)
        seen += "[" + std::to_string(data[0]) + " " + std::to_string(data[1]) + "]";
      else
        seen.append(data, static_cast<size_t>(n));
    }
  }

  bool ready_ = false;
  UniqueFd peer_;
  Connection worker_;
  std::array<char, 100> buffer_;
};

INSTANTIATE_TEST_SUITE_P(, ClientDirect, ::testing::Values(TLS_1_3_VERSION, TLS_1_2_VERSION),
                         [](const auto& test) {
                           return test.param == TLS_1_3_VERSION ? "Tls13" : "Tls12";
                         });

// ---- Reading

TEST_P(ClientDirect, ReadsDataThenTheAuthenticatedEnd) {
  PeerSends("data");
  PeerSendsAlert(1, 0);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), 0);
  EXPECT_EQ(Read(), 0) << "and no waiting for the FIN";
}

TEST_P(ClientDirect, AFinIsNoEnd) {
  PeerSends("data");
  shutdown(peer_.get(), SHUT_WR);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
  EXPECT_EQ(worker_.Write("x"), -EPIPE);
  EXPECT_EQ(worker_.Close(), TLSBROKER_E_TRUNCATED);
  EXPECT_EQ(PeerSees(), "FIN") << "no close_notify from a worker that was cut off";
}

TEST_P(ClientDirect, AResetIsNoEnd) {
  const linger hard = {1, 0};
  setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  peer_.Reset();
  EXPECT_EQ(Read(), TLSBROKER_E_TRUNCATED);
}

TEST_P(ClientDirect, TellsThePeersFatalAlert) {
  PeerSends("data");
  PeerSendsAlert(2, 40);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(worker_.alert(), -1);
  EXPECT_EQ(Read(), TLSBROKER_E_ALERT);
  EXPECT_EQ(worker_.alert(), 40);
  EXPECT_EQ(Read(), TLSBROKER_E_ALERT);
  EXPECT_EQ(worker_.Close(), TLSBROKER_E_ALERT);
}

TEST_P(ClientDirect, WarningsAreFatalOnlyWithoutWarnings) {
  PeerSendsAlert(1, 41);  // no_certificate
  PeerSends("data");
  EXPECT_EQ(Read(), tls13() ? TLSBROKER_E_ALERT : 4);
}

TEST_P(ClientDirect, UserCanceledIsNoEnd) {
  PeerSendsAlert(1, 90);
  PeerSendsAlert(1, 0);
  EXPECT_EQ(Read(), 0);
}

TEST_P(ClientDirect, DoesNotIgnoreAlertsForever) {
  for (int i = 0; i < 6; ++i) PeerSendsAlert(1, 90);
  EXPECT_EQ(Read(), TLSBROKER_E_ALERT);
}

TEST_P(ClientDirect, RefusesRecordsThatHaveNoPlaceHere) {
  // In TLS 1.2 a ClientHello would be an attempt to renegotiate, which is not refused so harshly.
  const std::string_view client_hello("\x01\x00\x00\x00", 4);
  ASSERT_TRUE(SendRecord(peer_.get(), tls13() ? 22 : 24, client_hello));
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
  EXPECT_EQ(worker_.Close(), TLSBROKER_E_PROTOCOL);
  EXPECT_EQ(PeerSees(), "[2 10]FIN") << "unexpected_message";
}

TEST_P(ClientDirect, RefusesAlertsOfAnotherLength) {
  ASSERT_TRUE(SendRecord(peer_.get(), 21, "\x01"));
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
}

TEST_P(ClientDirect, RefusesControlRecordsLargerThanItsBuffer) {
  ASSERT_TRUE(SendRecord(peer_.get(), tls13() ? 22 : 24, std::string(5000, 'h')));
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
}

TEST_P(ClientDirect, AKeyUpdateIsTold) {
  if (!tls13()) return;
  ASSERT_TRUE(SendRecord(peer_.get(), 22, std::string_view("\x18\x00\x00\x01\x01", 5)));
  EXPECT_EQ(Read(), TLSBROKER_E_REKEY);
  EXPECT_EQ(Read(), TLSBROKER_E_REKEY);
  worker_.Abort();
  EXPECT_EQ(PeerSees(), "[2 80]FIN");
}

// ---- What a server sends to its clients after the handshake

class ClientOfAServer : public ClientDirect {
 protected:
  bool we_are_client() const override { return true; }

  // A NewSessionTicket of `size` bytes, header included.
  static std::string Ticket(size_t size) {
    std::string ticket = {4, 0, static_cast<char>((size - 4) >> 8), static_cast<char>(size - 4)};
    return ticket + std::string(size - 4, 't');
  }
  void PeerSendsHandshake(std::string_view content) { SendRecord(peer_.get(), 22, content); }
};

INSTANTIATE_TEST_SUITE_P(, ClientOfAServer, ::testing::Values(TLS_1_3_VERSION, TLS_1_2_VERSION),
                         [](const auto& test) {
                           return test.param == TLS_1_3_VERSION ? "Tls13" : "Tls12";
                         });

// The warning no_renegotiation, and the connection goes on; who insists is cut off.
TEST_P(ClientOfAServer, RenegotiationIsRefused) {
  if (tls13()) return;
  constexpr std::string_view kHelloRequest("\0\0\0\0", 4);
  for (int i = 0; i < 5; ++i) PeerSendsHandshake(kHelloRequest);
  PeerSends("data");
  EXPECT_EQ(Read(), 4);
  PeerSendsHandshake(kHelloRequest);
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
}

TEST_P(ClientOfAServer, TicketsAreSkipped) {
  if (!tls13()) return;
  PeerSendsHandshake(Ticket(250));
  PeerSends("data");
  PeerSendsHandshake(Ticket(40) + Ticket(4));
  const std::string large = Ticket(20000);
  PeerSendsHandshake(large.substr(0, 2));
  PeerSendsHandshake(large.substr(2, 16384));
  PeerSendsHandshake(large.substr(2 + 16384) + Ticket(10));
  PeerSends("more");
  PeerSendsAlert(1, 0);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), 0);
}

TEST_P(ClientOfAServer, TicketsAreSkippedBySplicing) {
  if (!tls13()) return;
  int pipe[2];
  ASSERT_EQ(pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd reading(pipe[0]), writing(pipe[1]);
  PeerSendsHandshake(Ticket(250) + Ticket(250));
  PeerSends("data");
  PeerSendsHandshake(Ticket(250));
  PeerSendsAlert(1, 0);
  EXPECT_EQ(worker_.SpliceRead(writing.get(), 100), 4);
  EXPECT_EQ(worker_.SpliceRead(writing.get(), 100), 0);
}

TEST_P(ClientOfAServer, AKeyUpdateBehindATicketIsSeen) {
  if (!tls13()) return;
  PeerSendsHandshake(Ticket(30) + std::string("\x18\x00\x00\x01\x00", 5));
  EXPECT_EQ(Read(), TLSBROKER_E_REKEY);
}

TEST_P(ClientOfAServer, NothingElseIsSkipped) {
  if (!tls13()) return;
  PeerSendsHandshake(Ticket(30) + std::string("\x0d\x00\x00\x00", 4));  // CertificateRequest
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
  worker_.Abort();
  EXPECT_EQ(PeerSees(), "[2 10]FIN");
}

TEST_P(ClientOfAServer, TicketsWithoutAnEndAreTooMany) {
  if (!tls13()) return;
  for (int i = 0; i < 32; ++i) PeerSendsHandshake(Ticket(30));
  PeerSends("data");
  for (int i = 0; i < 33; ++i) PeerSendsHandshake(Ticket(30));
  EXPECT_EQ(Read(), 4);
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
}

TEST_P(ClientDirect, AServerGetsNoTickets) {
  if (!tls13()) return;
  SendRecord(peer_.get(), 22, std::string_view("\x04\x00\x00\x00", 4));
  EXPECT_EQ(Read(), TLSBROKER_E_PROTOCOL);
}

// A record has to be spoiled below the kernel's TLS, on the wire, which a second socket cannot do.
// So this peer has no kernel TLS, and sends a record that the worker's keys cannot open.
TEST_P(ClientDirect, ARecordThatDoesNotAuthenticateIsTold) {
  auto [peer, worker] = TcpPair();
  ASSERT_TRUE(InstallKeys(worker.get(), GetParam()));
  const char record[] =
      "\x17\x03\x03\x00\x20"
      "no ciphertext of anything at all";
  ASSERT_EQ(send(peer.get(), record, 37, 0), 37);
  handoff::Description d = SomeDescription(handoff::Mode::kDirect);
  Connection c = HandOff(std::move(worker), d);
  EXPECT_EQ(c.Read(buffer_.data(), buffer_.size()), TLSBROKER_E_PROTOCOL);
}

TEST_P(ClientDirect, ReadsWithoutBlockingWhenAsked) {
  ASSERT_EQ(worker_.SetNonblocking(true), 0);
  EXPECT_EQ(Read(), -EAGAIN);
  PeerSendsAlert(1, 0);
  pollfd p{worker_.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, 10'000), 1);
  EXPECT_EQ(Read(), 0);
}

TEST_P(ClientDirect, OneByteBuffersLoseNothing) {
  PeerSends("ab");
  PeerSendsAlert(2, 42);
  EXPECT_EQ(worker_.Read(buffer_.data(), 1), 1);
  EXPECT_EQ(worker_.Read(buffer_.data(), 1), 1);
  EXPECT_EQ(worker_.Read(buffer_.data(), 1), TLSBROKER_E_ALERT);
  EXPECT_EQ(worker_.alert(), 42);
}

// ---- Writing and ending

TEST_P(ClientDirect, WritesAfterThePeersEnd) {
  PeerSendsAlert(1, 0);
  EXPECT_EQ(Read(), 0);
  EXPECT_EQ(worker_.Write("ans", TLSBROKER_MORE), 3);
  EXPECT_EQ(worker_.Write("wer"), 3);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(PeerSees(), "answer[1 0]FIN");
}

TEST_P(ClientDirect, EndIsExplicitAndReadingGoesOn) {
  EXPECT_EQ(worker_.Write("request", TLSBROKER_MORE), 7);
  EXPECT_EQ(worker_.EndWrite(), 0);
  EXPECT_EQ(worker_.EndWrite(), 0);
  EXPECT_EQ(worker_.Write("x"), -EPIPE);
  PeerSends("answer");
  EXPECT_EQ(Read(), 6);
  PeerSendsAlert(1, 0);
  EXPECT_EQ(Read(), 0);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(PeerSees(), "request[1 0]FIN");
}

TEST_P(ClientDirect, AbortIsAFatalAlert) {
  EXPECT_EQ(worker_.Write("some"), 4);
  worker_.Abort();
  EXPECT_EQ(PeerSees(), "some[2 80]FIN");
}

TEST_P(ClientDirect, SendsFiles) {
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  off_t offset = 1;
  EXPECT_EQ(worker_.SendFile(file.get(), &offset, 3), 3);
  EXPECT_EQ(worker_.Close(0), 0);
  EXPECT_EQ(PeerSees(), "ELF[1 0]FIN");
}

// The pipe holds as many buffers as the kernel hands over at once, and the last one is not full.
TEST_P(ClientDirect, SplicingAFullPipeKeepsNothingBack) {
  const Pipe pipe;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const std::string data(15 * page + 100, 'x');
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  ASSERT_EQ(setsockopt(peer_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  for (const bool nonblocking : {false, true}) {
    ASSERT_EQ(worker_.SetNonblocking(nonblocking), 0);
    ASSERT_EQ(write(pipe.write_end.get(), data.data(), data.size()),
              static_cast<ssize_t>(data.size()));
    for (size_t written = 0; written < data.size();) {
      const ssize_t n = worker_.SpliceWrite(pipe.read_end.get(), 1 << 20);
      ASSERT_GT(n, 0);
      written += static_cast<size_t>(n);
    }
    std::string seen(data.size(), '\0');
    for (size_t received = 0; received < data.size();) {
      const ssize_t n = recv(peer_.get(), seen.data() + received, data.size() - received, 0);
      ASSERT_GT(n, 0) << strerror(errno) << " after " << received << " bytes";
      received += static_cast<size_t>(n);
    }
    EXPECT_EQ(seen, data);
  }
}

TEST_P(ClientDirect, SplicingWaitsForAPipe) {
  Pipe pipe;
  std::thread writer([&] {
    EXPECT_EQ(write(pipe.write_end.get(), "late", 4), 4);
    EXPECT_EQ(Read(), 4);
    pipe.write_end.Reset();
  });
  EXPECT_EQ(worker_.SpliceWrite(pipe.read_end.get(), 100), 4);
  PeerSends("next");
  EXPECT_EQ(worker_.SpliceWrite(pipe.read_end.get(), 100), 0);
  writer.join();
}

TEST_P(ClientDirect, SplicingDoesNotWaitWhenAsked) {
  const Pipe pipe;
  EXPECT_EQ(worker_.SpliceWrite(pipe.read_end.get(), 0), 0);
  ASSERT_EQ(worker_.SetNonblocking(true), 0);
  EXPECT_EQ(worker_.SpliceWrite(pipe.read_end.get(), 100), -EAGAIN);
  ASSERT_EQ(worker_.SetNonblocking(false), 0);
  ASSERT_EQ(fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(worker_.SpliceWrite(pipe.read_end.get(), 100), -EAGAIN);
}

// If data is unread at close, TCP sends a reset, which can overtake the answer.
TEST_P(ClientDirect, CloseDiscardsWhatThePeerStillSends) {
  PeerSends(std::string(50'000, 'u'));
  EXPECT_EQ(worker_.Write("answer"), 6);
  std::thread peer([&] {
    EXPECT_EQ(PeerSees(), "answer[1 0]FIN");
    PeerSends("late");
    PeerSendsAlert(1, 0);
    peer_.Reset();
  });
  EXPECT_EQ(worker_.Close(10'000), 0);
  peer.join();
}

TEST_P(ClientDirect, CloseIsBoundedForAPeerThatNeverEnds) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(worker_.Close(100), 0);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
  EXPECT_EQ(PeerSees(), "[1 0]FIN");
}

// A record that a non-blocking socket took may still wait inside the kernel's TLS, and a close
// would drop it. This is tried for many sizes, so that every such state occurs.
TEST_P(ClientDirect, NothingIsLostWhenAFullSocketIsClosed) {
  for (size_t size : {1, 500, 4096, 16'384, 50'000}) {
    auto [peer, worker] = TcpPair();
    ASSERT_TRUE(InstallKeys(worker.get(), GetParam()) && InstallKeys(peer.get(), GetParam()));
    peer_ = std::move(peer);
    Connection c = HandOff(std::move(worker), SomeDescription(handoff::Mode::kDirect));
    const int small = 30'000;
    setsockopt(c.fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    ASSERT_EQ(c.SetNonblocking(true), 0);
    const std::string block(size, 'x');
    size_t written = 0;
    for (ssize_t n; (n = c.Write(block)) > 0;) written += static_cast<size_t>(n);
    std::string seen;
    std::thread reader([&] {
      seen = PeerSees();
      shutdown(peer_.get(), SHUT_WR);  // else close would wait for its whole time
    });
    EXPECT_EQ(c.Close(10'000), 0);
    reader.join();
    EXPECT_EQ(seen, std::string(written, 'x') + "[1 0]FIN") << "blocks of " << size;
  }
}

TEST_P(ClientDirect, CloseGivesUpInTimeWhenThereIsNoRoom) {
  ASSERT_EQ(worker_.SetNonblocking(true), 0);
  const std::string block(16'384, 'x');
  while (worker_.Write(block) > 0) {
  }
  EXPECT_EQ(worker_.EndWrite(), -EAGAIN);
  EXPECT_EQ(worker_.Close(100), -ETIMEDOUT);
  EXPECT_EQ(PeerSees().find('['), std::string::npos) << "no close_notify";
}

}  // namespace
}  // namespace tlsbroker
