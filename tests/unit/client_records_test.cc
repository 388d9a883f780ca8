// SPDX-License-Identifier: Apache-2.0
// libtlsbroker on a socket with kernel TLS whose peer decides about each byte: empty records, wrong
// ones, and a reset behind the end. Skips without kernel TLS.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>

#include "tests/unit/client_pair.h"
#include "tests/unit/ktls_pair.h"
#include "tests/unit/record_sealer.h"

namespace tlsbroker {
namespace {

constexpr uint8_t kAlert = 21, kHandshake = 22, kData = 23;
constexpr std::string_view kCloseNotify("\x01\x00", 2);

// By which function the worker reads.
enum class By { kRead, kSplice };

class ClientRecords : public ClientTest,
                      public ::testing::WithParamInterface<std::tuple<uint16_t, By>> {
 protected:
  void SetUp() override {
    auto [peer, worker] = TcpPair();
    peer_ = std::move(peer);
    if (!InstallKeys(worker.get(), version())) {
      if (Expected("ktls")) FAIL() << "kernel TLS is expected here: " << strerror(errno);
      GTEST_SKIP() << "no kernel TLS: " << strerror(errno);
    }
    handoff::Description d = SomeDescription(handoff::Mode::kDirect);
    d.tls_version = tls13() ? "TLSv1.3" : "TLSv1.2";
    worker_ = HandOff(std::move(worker), d);
    int ends[2] = {-1, -1};
    ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    from_pipe_.Reset(ends[0]);
    pipe_.Reset(ends[1]);
  }
  ~ClientRecords() override {
    worker_.Abort();
    peer_.Reset();
  }

  static uint16_t version() { return std::get<0>(GetParam()); }
  static bool tls13() { return version() == TLS_1_3_VERSION; }

  void PeerSendsRaw(std::string_view bytes) {
    ASSERT_EQ(send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void PeerSends(uint8_t type, std::string_view content) {
    PeerSendsRaw(sealer_.Seal(type, content));
  }
  void PeerSendsEmpty(int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += sealer_.Seal(kData, "");
    PeerSendsRaw(all);
  }
  // The kernel of the peer has got acknowledgements for everything.
  void WaitUntilAcknowledged() const {
    int unacknowledged = 1;
    while (ioctl(peer_.get(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0) {
      std::this_thread::yield();
    }
  }
  void PeerResets() {
    WaitUntilAcknowledged();
    const linger hard = {1, 0};
    setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    peer_.Reset();
  }

  // What was read, or the result.
  std::string Read() {
    std::array<char, 65536> buffer;
    ssize_t n;
    if (std::get<1>(GetParam()) == By::kRead) {
      n = worker_.Read(buffer.data(), buffer.size());
    } else {
      n = worker_.SpliceRead(pipe_.get(), 1 << 20);
      if (n > 0) {
        EXPECT_EQ(read(from_pipe_.get(), buffer.data(), buffer.size()), n);
      }
    }
    return n > 0 ? std::string(buffer.data(), static_cast<size_t>(n)) : std::to_string(n);
  }
  static std::string Result(int result) { return std::to_string(result); }

  // What the peer gets: alerts as "[number]", data, then "FIN" or "reset".
  std::string PeerSees() {
    std::string wire, seen, end;
    std::array<char, 65536> buffer;
    for (ssize_t n; end.empty();) {
      n = recv(peer_.get(), buffer.data(), buffer.size(), 0);
      if (n > 0) wire.append(buffer.data(), static_cast<size_t>(n));
      if (n <= 0) end = n == 0 ? "FIN" : errno == ECONNRESET ? "reset" : strerror(errno);
    }
    for (uint8_t type = 0; !wire.empty();) {
      const std::string content = sealer_.Open(wire, type);
      if (type == 0) return seen + "(no record)" + end;
      seen += type == kAlert ? "[" + std::to_string(content.at(1)) + "]" : content;
    }
    return seen + end;
  }
  // Reads, to an answer of TLSBROKER_E_PROTOCOL, what the peer has sent, which gets this alert.
  void IsRefusedWith(int alert) {
    EXPECT_EQ(Read(), Result(TLSBROKER_E_PROTOCOL));
    EXPECT_EQ(PeerSees(), "[" + std::to_string(alert) + "]FIN");
    EXPECT_EQ(Read(), Result(TLSBROKER_E_PROTOCOL));
    peer_.Reset();
    EXPECT_EQ(worker_.Close(), TLSBROKER_E_PROTOCOL);
  }

  UniqueFd peer_, from_pipe_, pipe_;
  Connection worker_;
  RecordSealer sealer_{version()};
};

INSTANTIATE_TEST_SUITE_P(, ClientRecords,
                         ::testing::Combine(::testing::Values(TLS_1_3_VERSION, TLS_1_2_VERSION),
                                            ::testing::Values(By::kRead, By::kSplice)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) == TLS_1_3_VERSION
                                                  ? "Tls13"
                                                  : "Tls12") +
                                  (std::get<1>(test.param) == By::kRead ? "Read" : "Splice");
                         });

// ---- Empty records

TEST_P(ClientRecords, EmptyRecordsAreNoEnd) {
  for (const int count : {1, 3, 32}) {
    PeerSendsEmpty(count);
    PeerSends(kData, "data");
    EXPECT_EQ(Read(), "data") << count;
  }
  PeerSendsEmpty(3);
  PeerSends(kAlert, kCloseNotify);
  EXPECT_EQ(Read(), "0");
  EXPECT_EQ(worker_.Write("answer"), 6);
  shutdown(peer_.get(), SHUT_WR);
  EXPECT_EQ(worker_.Close(), 0);
  EXPECT_EQ(PeerSees(), "answer[0]FIN");
}

TEST_P(ClientRecords, AFinBehindEmptyRecordsIsNoEnd) {
  PeerSendsEmpty(3);
  shutdown(peer_.get(), SHUT_WR);
  EXPECT_EQ(Read(), Result(TLSBROKER_E_TRUNCATED));
}

TEST_P(ClientRecords, AnAlertBehindEmptyRecordsIsTold) {
  PeerSendsEmpty(32);
  PeerSends(kAlert, "\x02\x28");
  EXPECT_EQ(Read(), Result(TLSBROKER_E_ALERT));
  EXPECT_EQ(worker_.alert(), 40);
}

TEST_P(ClientRecords, WithoutBlockingEmptyRecordsAreNothing) {
  ASSERT_EQ(worker_.SetNonblocking(true), 0);
  for (const int count : {1, 3, 16}) {
    PeerSendsEmpty(count);
    WaitUntilAcknowledged();
    EXPECT_EQ(Read(), Result(-EAGAIN)) << count;
  }
  PeerSends(kData, "data");
  pollfd p{worker_.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, 10'000), 1);
  EXPECT_EQ(Read(), "data");
}

// A blocked reader is woken by them, and goes on waiting.
TEST_P(ClientRecords, AReaderWaitsOnForWhatComesBehindThem) {
  ASSERT_EQ(fcntl(pipe_.get(), F_SETFL, 0), 0);
  std::thread peer([&] {
    for (int i = 0; i < 20; ++i) {
      PeerSendsEmpty(1);
      WaitUntilAcknowledged();
    }
    PeerSends(kData, "data");
  });
  EXPECT_EQ(Read(), "data");
  peer.join();
}

// recv(2) takes all of them in one call; splice(2) stops at each.
TEST_P(ClientRecords, EmptyRecordsWithoutAnEndAreTooMany) {
  if (std::get<1>(GetParam()) == By::kRead) return;
  PeerSendsEmpty(33);
  IsRefusedWith(10);
}

// ---- Records that are wrong

TEST_P(ClientRecords, ARecordThatDoesNotAuthenticate) {
  PeerSends(kData, "data");
  std::string spoiled = sealer_.Seal(kData, "more");
  spoiled.back() ^= 1;
  PeerSendsRaw(spoiled);
  EXPECT_EQ(Read(), "data");
  IsRefusedWith(20);
}

// In TLS 1.2 the kernel looks at a record only when 13 bytes of it, or of what follows, have come.
TEST_P(ClientRecords, ARecordThatIsTooShort) {
  PeerSendsRaw(std::string_view("\x17\x03\x03\x00\x05????????", 13));
  IsRefusedWith(20);
}

TEST_P(ClientRecords, ARecordThatIsTooLong) {
  PeerSends(kData, "data");
  PeerSendsRaw(std::string_view("\x17\x03\x03\xff\xff??????????", 15));
  EXPECT_EQ(Read(), "data");
  IsRefusedWith(22);
}

TEST_P(ClientRecords, ARecordOfAnotherVersion) {
  PeerSends(kData, "data");
  PeerSendsRaw("\x17\x03\x01" + std::string("\x00\x28", 2) + std::string(40, '?'));
  EXPECT_EQ(Read(), "data");
  IsRefusedWith(70);
}

TEST_P(ClientRecords, AWrongRecordIsFoundWithoutBlocking) {
  ASSERT_EQ(worker_.SetNonblocking(true), 0);
  PeerSendsRaw("\x17\x03\x01" + std::string("\x00\x28", 2) + std::string(40, '?'));
  pollfd p{worker_.fd(), 0, 0};
  ASSERT_EQ(poll(&p, 1, 10'000), 1);
  IsRefusedWith(70);
}

// No writer takes the error away from the reader.
TEST_P(ClientRecords, WritingFailsWhenARecordWasWrong) {
  PeerSendsRaw(std::string_view("\x17\x03\x03\xff\xff??????????", 15));
  pollfd p{worker_.fd(), 0, 0};
  ASSERT_EQ(poll(&p, 1, 10'000), 1);
  EXPECT_EQ(worker_.Write("x"), -EMSGSIZE);
  IsRefusedWith(22);
}

TEST_P(ClientRecords, KeyUpdatesThatAreWrong) {
  if (!tls13()) return;
  const std::pair<std::string_view, int> cases[] = {
      {{"\x18\x00\x00\x01\x02", 5}, 47},      // request_update
      {{"\x18\x00\x00\x01\xff", 5}, 47},      //
      {{"\x18\x00\x00\x00", 4}, 50},          // empty
      {{"\x18\x00\x00\x02\x00\x00", 6}, 50},  // too long
      {{"\x18\x00\x01\x00\x00", 5}, 50},      // more than the record has
      {{"\x18\x00\x00\x01\x00\x18", 6}, 10},  // not the last of its record
  };
  for (const auto& [message, alert] : cases) {
    auto [peer, worker] = TcpPair();
    ASSERT_TRUE(InstallKeys(worker.get(), version()));
    worker_.Abort();
    peer_ = std::move(peer);
    sealer_ = RecordSealer(version());
    worker_ = HandOff(std::move(worker), SomeDescription(handoff::Mode::kDirect));
    PeerSends(kHandshake, message);
    IsRefusedWith(alert);
  }
}

TEST_P(ClientRecords, SplicingIntoWhatIsNoPipe) {
  if (std::get<1>(GetParam()) == By::kRead) return;
  const UniqueFd file(open("/dev/null", O_WRONLY | O_CLOEXEC));
  PeerSends(kData, "data");
  EXPECT_EQ(worker_.SpliceRead(file.get(), 100), -EINVAL);
  EXPECT_EQ(Read(), "data") << "it was a mistake of the worker's";
  from_pipe_.Reset();
  PeerSends(kData, "more");
  signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(worker_.SpliceRead(pipe_.get(), 100), -EPIPE);
  EXPECT_EQ(worker_.Write("answer"), 6) << "the connection is as it was";
}

// ---- What comes behind an end

TEST_P(ClientRecords, AResetBehindTheEnd) {
  const std::string data(16'000, 'x');
  PeerSends(kData, data);
  PeerSends(kAlert, kCloseNotify);
  PeerResets();
  EXPECT_EQ(Read(), data);
  EXPECT_EQ(Read(), "0");
  EXPECT_EQ(Read(), "0");
  const ssize_t written = worker_.Write("x");
  EXPECT_TRUE(written == -ECONNRESET || written == -EPIPE) << written;
  EXPECT_LT(worker_.Close(), 0);
}

TEST_P(ClientRecords, AResetBehindTheEndAndAWriterThatFindsItFirst) {
  for (const bool fin : {false, true}) {
    auto [peer, worker] = TcpPair();
    ASSERT_TRUE(InstallKeys(worker.get(), version()));
    worker_.Abort();
    peer_ = std::move(peer);
    sealer_ = RecordSealer(version());
    worker_ = HandOff(std::move(worker), SomeDescription(handoff::Mode::kDirect));
    const std::string data(16'000, 'x');
    PeerSends(kData, data);
    PeerSends(kData, data);
    PeerSends(kAlert, kCloseNotify);
    if (fin) shutdown(peer_.get(), SHUT_WR);
    PeerResets();
    while (worker_.Write("x") > 0) {
    }
    std::string all;
    while (all.size() < 32'000) {
      const std::string piece = Read();
      ASSERT_EQ(piece.find_first_not_of('x'), std::string::npos) << piece;
      all += piece;
    }
    EXPECT_EQ(Read(), "0");
    // The kernel's TLS would now take everything, and drop it.
    EXPECT_EQ(worker_.Write("x"), -EPIPE);
    EXPECT_EQ(worker_.EndWrite(), -EPIPE);
  }
}

TEST_P(ClientRecords, AResetWithoutAnEndIsACut) {
  PeerSends(kData, "data");
  PeerResets();
  while (worker_.Write("x") > 0) {
  }
  EXPECT_EQ(Read(), "data");
  EXPECT_EQ(Read(), Result(TLSBROKER_E_TRUNCATED));
}

}  // namespace
}  // namespace tlsbroker
