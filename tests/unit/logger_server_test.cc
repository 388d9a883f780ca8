// SPDX-License-Identifier: Apache-2.0
// The logger's loop with real pipes: senders that flood, outputs that stall or go away, the end.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "broker/logger/server.h"
#include "broker/logger/snapshot.h"
#include "broker/support/report.h"
#include "protocol/channel.h"
#include "protocol/pipe.h"
#include "tests/testlib/reports.h"

namespace tlsbroker::logger {
namespace {

using supervision::LogSource;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto kPatience = std::chrono::seconds(20);

UniqueFd Copy(int fd) { return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

class ServerTest : public testing::Test {
 protected:
  ServerTest() : output_(pipes::Make()) {
    signal(SIGPIPE, SIG_IGN);
    std::tie(supervisor_, control_) = channel::MakePair();
    Send(supervision::Confinement{});
  }
  ~ServerTest() override { Finish(); }

  void Start() {
    Send(supervision::Start{});
    thread_ = std::thread([this] {
      Server server;
      ControlEnd control(control_.get(), supervision::kToLogger);
      status_ = ReceiveSnapshot(control, server).status();
      if (!status_.ok()) return;
      status_ = server.Run(
          control, [this] { ++beats_; }, [this] { ++alone_; });
    });
  }
  void Send(const supervision::Message& message) {
    const supervision::Encoded encoded = supervision::Encode(message);
    ASSERT_EQ(channel::Send(supervisor_.get(), encoded.bytes, encoded.fds), channel::Result::kOk);
  }
  void SendOutput(int fd, bool priorities = true, bool socket = false) {
    Send(supervision::LogOutput{priorities, socket, Copy(fd)});
  }
  // Gives the server a new pipe; returns the end that the process would have.
  UniqueFd AddSender(uint32_t id, LogSource::Kind kind, const std::string& tag) {
    pipes::Pipe pipe = pipes::Make();
    Send(LogSource{id, kind, tag, std::move(pipe.reading)});
    fcntl(pipe.writing.get(), F_SETFL, 0);  // so that writing waits
    return std::move(pipe.writing);
  }
  void Drain(uint32_t milliseconds = 10'000) {
    if (supervisor_) Send(supervision::Drain{milliseconds});
    supervisor_.Reset();
  }
  // Ends the server.
  void Finish() {
    Drain();
    if (thread_.joinable()) thread_.join();
  }
  void ReadUntilItHas(const std::string& text) {
    const auto deadline = Clock::now() + kPatience;
    while (read_.find(text) == std::string::npos && Clock::now() < deadline) ReadSome();
  }
  void ReadSome() {
    char buffer[65536];
    const ssize_t n = read(output_.reading.get(), buffer, sizeof(buffer));
    if (n > 0) read_.append(buffer, static_cast<size_t>(n));
    if (n < 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  // Reads the output until it ends with `end`; returns everything that came so far.
  std::string ReadUntil(const std::string& end) {
    const auto deadline = Clock::now() + kPatience;
    while (!read_.ends_with(end) && Clock::now() < deadline) ReadSome();
    EXPECT_THAT(read_.substr(read_.size() - std::min(read_.size(), size_t{200})), EndsWith(end));
    return read_;
  }

  pipes::Pipe output_;
  UniqueFd supervisor_;
  UniqueFd control_;
  std::thread thread_;
  absl::Status status_;
  std::atomic<int> beats_ = 0;
  std::atomic<int> alone_ = 0;
  std::string read_;
};

void Write(const UniqueFd& pipe, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(pipe.get(), text.data(), text.size());
    ASSERT_GT(n, 0) << strerror(errno);
    text.remove_prefix(static_cast<size_t>(n));
  }
}

// The sum of all "N lines lost" in the text.
int Lost(const std::string& text) {
  const std::regex pattern("(\\d+) lines (of processes that have ended are )?lost");
  int lost = 0;
  for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i)
    lost += std::stoi((*i)[1]);
  return lost;
}

int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t i = 0; (i = text.find(what, i)) != std::string::npos; ++i) ++count;
  return count;
}

TEST_F(ServerTest, TagsAndEscapes) {
  Start();
  SendOutput(output_.writing.get());
  const UniqueFd worker = AddSender(1, LogSource::Kind::kWorker, "worker.web[7]: ");
  const UniqueFd role = AddSender(2, LogSource::Kind::kRole, "keyholder: ");
  const UniqueFd logger = AddSender(3, LogSource::Kind::kWorkers, "worker.mail");
  Write(worker, "said\n<1>\x1b]0;title\n");
  ReadUntil("<6>worker.web[7]: said\n<3>worker.web[7]: \\x1b]0;title\n");
  Write(worker, "<5>tlsbrokerd: forged");
  Write(role, "<4>a warning\n");
  ReadUntil("<4>keyholder: a warning\n");
  Write(worker, "\n");
  ReadUntil("<5>worker.web[7]: tlsbrokerd: forged\n");
  Write(logger, "<6>[12]: hello\n");
  ReadUntil("<6>worker.mail[12]: hello\n");
}

TEST_F(ServerTest, TerminalsHaveNoPriorities) {
  Start();
  SendOutput(output_.writing.get(), /*priorities=*/false);
  Write(AddSender(1, LogSource::Kind::kWorker, "worker.web[7]: "), "<4>text\n");
  ReadUntil("worker.web[7]: text\n");
}

// splice(2) holds the lock of the pipe while it waits for the rest of the data that it is to move.
TEST_F(ServerTest, SaysInWhichPipeItHasToWait) {
  testlib::Reports reports;
  ASSERT_TRUE(OpenReports(reports.bell(), reports.memory()));
  SendOutput(output_.writing.get());
  const UniqueFd honest = AddSender(6, LogSource::Kind::kRole, "keyholder: ");
  const UniqueFd held = AddSender(7, LogSource::Kind::kRole, "handshaker: ");
  Start();
  for (int i = 0; i < 5; ++i) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    const int all = 1000;
    setsockopt(reading.get(), SOL_SOCKET, SO_RCVLOWAT, &all, sizeof(all));
    ASSERT_EQ(write(writing.get(), "x\n", 2), 2);
    std::thread splicing(
        [&] { (void)splice(reading.get(), nullptr, held.get(), nullptr, 1000, 0); });
    // A process that already waits for the pipe is woken only by the end of splice(2); one that
    // looks at the pipe finds the line.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Write(honest, "another\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    writing.Reset();
    splicing.join();
  }
  const auto message = reports.Next(getpid(), 20'000);
  ASSERT_TRUE(message && std::holds_alternative<supervision::LogHeld>(*message));
  EXPECT_EQ(std::get<supervision::LogHeld>(*message).id, 7U);
  EXPECT_FALSE(reports.Next(getpid(), 0)) << "once";
}

TEST_F(ServerTest, EndOfASender) {
  Start();
  SendOutput(output_.writing.get());
  UniqueFd one = AddSender(1, LogSource::Kind::kWorker, "one: ");
  Write(one, "not a whole line");
  one.Reset();
  ReadUntil("<6>one: not a whole line\n");
  Send(supervision::LogEnd{1});  // the supervisor has not noticed the end yet
  UniqueFd two = AddSender(2, LogSource::Kind::kWorker, "two: ");
  Write(two, "last");
  Send(supervision::LogEnd{2});  // while somebody still has the pipe
  ReadUntil("<6>two: last\n");
  EXPECT_EQ(write(two.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(ServerTest, AFloodIsCutAndSaid) {
  constexpr int kLines = 50'000;
  Start();
  SendOutput(output_.writing.get());
  UniqueFd worker = AddSender(1, LogSource::Kind::kWorker, "w: ");
  const UniqueFd role = AddSender(2, LogSource::Kind::kRole, "r: ");
  std::thread flood([&] {
    for (int i = 0; i < kLines; ++i) Write(worker, "line\n");
    worker.Reset();
    Write(role, "over\n");
  });
  ReadUntilItHas("r: over\n");
  flood.join();
  std::thread reader([&] { ReadUntilItHas("\nend\n"); });
  Finish();
  Write(output_.writing, "\nend\n");
  reader.join();
  const int written = Count(read_, "w: line\n");
  EXPECT_GE(written, 2'000);
  EXPECT_LT(written, kLines);
  EXPECT_THAT(read_, HasSubstr(" lines lost (more than 1000 a second)\n"));
  EXPECT_EQ(written + Lost(read_), kLines);
}

TEST_F(ServerTest, AStalledReaderMakesNobodyWait) {
  constexpr int kLines = 5'000;  // 500 kB of a sender's that may keep 256 KiB
  const std::string text(100, 'x');
  Start();
  SendOutput(output_.writing.get());
  const UniqueFd worker = AddSender(1, LogSource::Kind::kWorker, "w: ");
  const UniqueFd role = AddSender(2, LogSource::Kind::kRole, "r: ");
  const auto begun = Clock::now();
  for (int i = 0; i < kLines; ++i) Write(role, text + "\n");
  for (int i = 0; i < 2'000; ++i) Write(worker, text + "\n");
  EXPECT_LT(Clock::now() - begun, kPatience / 2) << "nobody has read a byte of it";
  const int beats = beats_;
  std::this_thread::sleep_for(std::chrono::milliseconds(1'200));
  EXPECT_GT(beats_, beats) << "its loop turns";
  Write(role, "again\n");  // there is no room for it
  const auto deadline = Clock::now() + kPatience;
  while (Count(read_, "x\n") + Lost(read_) < kLines + 2'001 && Clock::now() < deadline) ReadSome();
  EXPECT_THAT(read_, HasSubstr(" lines lost (the log is read too slowly)\n"));
  EXPECT_EQ(Count(read_, "x\n") + Lost(read_), kLines + 2'001);
  EXPECT_LT(read_.size(), Output::kMaxWaiting + 200'000);
  Write(role, "goes again\n");
  ReadUntil("r: goes again\n");
}

TEST_F(ServerTest, WorkersLeaveRoomForTheBroker) {
  Start();
  SendOutput(output_.writing.get());
  std::vector<UniqueFd> loggers;
  for (uint32_t i = 0; i < 20; ++i)
    loggers.push_back(AddSender(i, LogSource::Kind::kWorkers, "worker." + std::to_string(i)));
  const std::string line(1'000, 'x');
  for (const UniqueFd& logger : loggers) {
    for (int i = 0; i < 200; ++i) Write(logger, "[1]: " + line + "\n");
  }
  const UniqueFd role = AddSender(100, LogSource::Kind::kRole, "r: ");
  Write(role, "has room\n");
  // So long that the server has read all of that.
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  std::thread reader([&] { ReadUntil("\nover\n"); });
  Finish();
  Write(output_.writing, "\nover\n");
  reader.join();
  EXPECT_THAT(read_, HasSubstr("<6>r: has room\n"));
  EXPECT_LT(read_.size(), Output::kMaxFromWorkers + 200'000);
}

TEST_F(ServerTest, HandshakersOfAServiceLeaveRoomForOthers) {
  Start();
  SendOutput(output_.writing.get());
  std::vector<UniqueFd> handshakers;
  for (uint32_t i = 0; i < 6; ++i) {
    handshakers.push_back(
        AddSender(i, LogSource::Kind::kRole, "handshaker.a[1." + std::to_string(i) + "]: "));
  }
  const std::string line(1'000, 'x');
  for (const UniqueFd& handshaker : handshakers) {
    for (int i = 0; i < 300; ++i) Write(handshaker, line + "\n");
  }
  const UniqueFd other = AddSender(100, LogSource::Kind::kRole, "handshaker.b[1.0]: ");
  Write(other, "has room\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  std::thread reader([&] { ReadUntil("\nover\n"); });
  Finish();
  Write(output_.writing, "\nover\n");
  reader.join();
  EXPECT_THAT(read_, HasSubstr("<6>handshaker.b[1.0]: has room\n"));
  EXPECT_LT(read_.size(), 256U * 1024 + 200'000);
}

TEST_F(ServerTest, WithoutAReader) {
  Start();
  pipes::Pipe gone = pipes::Make();
  gone.reading.Reset();
  SendOutput(gone.writing.get());
  const UniqueFd role = AddSender(1, LogSource::Kind::kRole, "r: ");
  Write(role, "kept\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  SendOutput(output_.writing.get());
  Write(role, "and written\n");
  ReadUntil("<6>r: kept\n<6>r: and written\n");
  EXPECT_THAT(read_, StartsWith("<6>r: kept"));
}

TEST_F(ServerTest, AFullDisk) {
  Start();
  const UniqueFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full);
  SendOutput(full.get());
  const UniqueFd role = AddSender(1, LogSource::Kind::kRole, "r: ");
  for (int i = 0; i < 5'000; ++i) Write(role, std::string(100, 'x') + "\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  SendOutput(output_.writing.get());
  Write(role, "over\n");
  std::thread reader([&] { ReadUntil("\nend\n"); });
  Finish();
  Write(output_.writing, "\nend\n");
  reader.join();
  EXPECT_EQ(Count(read_, "x\n") + Count(read_, "over\n") + Lost(read_), 5'001);
}

TEST_F(ServerTest, AHalfWrittenLineBeginsAnew) {
  Start();
  // A stream socket may take only a part of what is written to it.
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  SendOutput(theirs.get(), true, /*socket=*/true);
  const UniqueFd role = AddSender(1, LogSource::Kind::kRole, "r: ");
  const std::string line = std::string(3'000, 'x') + "\n";
  for (int i = 0; i < 80; ++i) Write(role, line);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  SendOutput(output_.writing.get());
  Write(role, "over\n");
  ReadUntil("<6>r: over\n");
  EXPECT_THAT(read_, StartsWith("<6>r: x"));
  EXPECT_EQ(Count(read_, "<6>r: " + line) * line.size(),
            read_.size() - Count(read_, "<6>r: ") * 6 - 5)
      << "whole lines";
}

TEST_F(ServerTest, ASocketIsNotMadeNonBlocking) {
  Start();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  SendOutput(theirs.get(), true, /*socket=*/true);
  Write(AddSender(1, LogSource::Kind::kRole, "r: "), "text\n");
  char buffer[100];
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(read(ours.get(), buffer, sizeof(buffer)))),
            "<6>r: text\n");
  EXPECT_EQ(fcntl(theirs.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(ServerTest, OutlivesASupervisorThatWasKilled) {
  Start();
  SendOutput(output_.writing.get());
  UniqueFd worker = AddSender(1, LogSource::Kind::kWorker, "w: ");
  supervisor_.Reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  Write(worker, "still here\n");
  ReadUntil("<6>w: still here\n");
  EXPECT_EQ(alone_, 1);
  worker.Reset();
  thread_.join();
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(ServerTest, TheEndDoesNotWaitForAReader) {
  Start();
  SendOutput(output_.writing.get());
  const UniqueFd role = AddSender(1, LogSource::Kind::kRole, "r: ");
  for (int i = 0; i < 2'000; ++i) Write(role, std::string(100, 'x') + "\n");
  const auto begun = Clock::now();
  Drain(300);
  Finish();
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_LT(Clock::now() - begun, kPatience / 2);
  EXPECT_GE(Clock::now() - begun, std::chrono::milliseconds(300)) << "but gives it that time";
}

TEST_F(ServerTest, TheEndWritesWhatIsThere) {
  Start();
  SendOutput(output_.writing.get());
  const UniqueFd role = AddSender(1, LogSource::Kind::kRole, "r: ");
  Write(role, "one\ntwo\nthree");
  Finish();
  ReadUntil("<6>r: one\n<6>r: two\n<6>r: three\n");
}

TEST_F(ServerTest, WhatNoSupervisorSays) {
  Start();
  Send(supervision::Ready{});
  thread_.join();
  EXPECT_FALSE(status_.ok());
}

}  // namespace
}  // namespace tlsbroker::logger
