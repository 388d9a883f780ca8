// SPDX-License-Identifier: Apache-2.0
// The supervisor's part of the log: the pipes that it makes and keeps, and the kinds of its
// standard error.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "broker/supervisor/elsewhere.h"
#include "broker/supervisor/log_output.h"
#include "broker/supervisor/log_sources.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

using Kind = LogSources::Kind;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class Sources : public testing::Test {
 protected:
  std::unique_ptr<LogPipe> Open(Kind kind = Kind::kWorker) {
    auto pipe = sources_->Open(kind, "s");
    EXPECT_TRUE(pipe.ok()) << pipe.status();
    return *std::move(pipe);
  }
  Sources() { signal(SIGPIPE, SIG_IGN); }
  // A copy of the pipe's writing end, as a process has it that a worker has started and left
  // behind.
  static UniqueFd LeftBehind(const LogPipe& pipe) {
    return UniqueFd(fcntl(pipe.writing(), F_DUPFD_CLOEXEC, 0));
  }
  void TellAll() {
    for (const uint32_t id : sources_->Untold()) sources_->Told(id);
  }

  int changes_ = 0;
  const std::shared_ptr<LogSources> sources_ = std::make_shared<LogSources>([this] { ++changes_; });
};

TEST_F(Sources, OnlyWorkersWait) {
  EXPECT_EQ(fcntl(Open(Kind::kWorker)->writing(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(fcntl(Open(Kind::kRole)->writing(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(fcntl(Open(Kind::kWorkers)->writing(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST_F(Sources, AreToldOnceTheyHaveAName) {
  const auto pipe = Open();
  EXPECT_THAT(sources_->Untold(), IsEmpty());
  pipe->Name("[1]: ");
  EXPECT_EQ(changes_, 2);
  const auto untold = sources_->Untold();
  ASSERT_THAT(untold, SizeIs(1));
  const auto message = sources_->Message(untold[0]);
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->tag, "[1]: ");
  EXPECT_EQ(message->kind, Kind::kWorker);
  EXPECT_EQ(fcntl(message->pipe.get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK) << "the logger's end";
  ASSERT_EQ(write(pipe->writing(), "x", 1), 1);
  char byte;
  EXPECT_EQ(read(message->pipe.get(), &byte, 1), 1);
  sources_->Told(untold[0]);
  EXPECT_THAT(sources_->Untold(), IsEmpty());
  sources_->ToldNobody();
  EXPECT_THAT(sources_->Untold(), ElementsAre(untold[0])) << "another logger";
}

TEST_F(Sources, OneThatIsHeldIsToldLater) {
  const auto held = Open();
  const auto other = Open();
  held->Name("[1]: ");
  other->Name("[2]: ");
  int calls = 0;
  held->OnHeld([&calls] { ++calls; });
  TellAll();
  EXPECT_EQ(sources_->Hold(47), std::nullopt) << "what a logger says need not be so";
  EXPECT_EQ(sources_->Hold(0), "s");
  EXPECT_EQ(calls, 1);
  sources_->ToldNobody();
  EXPECT_THAT(sources_->Untold(), ElementsAre(1)) << "another logger";
  sources_->Release(0);
  sources_->Release(47);
  EXPECT_THAT(sources_->Untold(), ElementsAre(0, 1));
}

// The broker's own processes start nothing: anybody who still has such a pipe was sent it.
TEST_F(Sources, OfOursGoWithTheirProcess) {
  auto pipe = Open(Kind::kRole);
  pipe->Name("handshaker: ");
  const UniqueFd left = LeftBehind(*pipe);
  TellAll();
  pipe.reset();
  EXPECT_THAT(sources_->Sweep(), IsEmpty()) << "a process that is just being started may have it";
  EXPECT_THAT(sources_->Sweep(), ElementsAre(0)) << "the logger is to let go of it, too";
  EXPECT_TRUE(sources_->empty());
  EXPECT_EQ(sources_->Hold(0), "s") << "it may hang in that";
}

TEST_F(Sources, GoWithTheLastWriter) {
  auto pipe = Open();
  pipe->Name("[1]: ");
  UniqueFd left = LeftBehind(*pipe);
  pipe.reset();
  EXPECT_THAT(sources_->Sweep(), IsEmpty());
  EXPECT_THAT(sources_->Untold(), SizeIs(1)) << "somebody can still write";
  ASSERT_EQ(write(left.get(), "x", 1), 1);
  left.Reset();
  EXPECT_THAT(sources_->Sweep(), IsEmpty());
  const auto untold = sources_->Untold();
  ASSERT_THAT(untold, SizeIs(1)) << "nobody has read it yet";
  {
    const auto message = sources_->Message(untold[0]);
    char byte;
    ASSERT_EQ(read(message->pipe.get(), &byte, 1), 1);
  }
  EXPECT_THAT(sources_->Sweep(), IsEmpty());
  EXPECT_THAT(sources_->Untold(), IsEmpty());
}

TEST_F(Sources, OfWhatWasNeverStartedAreNone) {
  auto pipe = Open();
  const UniqueFd left = LeftBehind(*pipe);
  pipe.reset();
  EXPECT_EQ(write(left.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(Sources, LeftOpenAreBounded) {
  std::vector<UniqueFd> left;
  const auto leave_one = [&] {
    auto pipe = Open();
    pipe->Name("[1]: ");
    left.push_back(LeftBehind(*pipe));
  };
  for (size_t i = 0; i < LogSources::kMaxLeftOpen + 3; ++i) leave_one();
  EXPECT_THAT(sources_->Sweep(), IsEmpty()) << "there is no logger that has them as well";
  TellAll();
  EXPECT_THAT(sources_->Sweep(), ElementsAre(0, 1, 2)) << "the oldest";
  EXPECT_THAT(sources_->Sweep(), IsEmpty());
  sources_->ToldNobody();
  while (left.size() < LogSources::kMaxEnded + 3) leave_one();
  EXPECT_FALSE(sources_->Open(Kind::kWorker, "s").ok());
}

// close(2) of the last descriptor waits for the lock that the thread holds.
TEST_F(Sources, OneThatCannotBeClosedIsCounted) {
  auto pipe = Open();
  pipe->Name("[1]: ");
  UniqueFd left = LeftBehind(*pipe);
  pipe.reset();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd silent(ends[0]);
  UniqueFd speaking(ends[1]);
  std::thread splicing([&] {
    (void)splice(silent.get(), nullptr, left.get(), nullptr, 1, 0);
    left.Reset();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  sources_->LetGoOfAll();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ReapErrands();
  const auto later = Clock::now() + std::chrono::seconds(3);
  EXPECT_EQ(StuckErrands("s", Clock::now()), 0U) << "not yet";
  EXPECT_EQ(StuckErrands("s", later), 1U);
  EXPECT_EQ(StuckErrands("another", later), 0U);
  speaking.Reset();
  splicing.join();
  while (StuckErrands("s", later) != 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ReapErrands();
  }
}

// Each test chooses what standard error is.
class Output : public testing::Test {
 protected:
  Output() : saved_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    char name[] = "/tmp/supervisor-log-test-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~Output() override {
    dup2(saved_.get(), STDERR_FILENO);
    std::filesystem::remove_all(directory_);
  }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  void UseFile(const std::string& name, int flags = O_APPEND) {
    const UniqueFd file(open(Path(name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600));
    dup2(file.get(), STDERR_FILENO);
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  UniqueFd saved_;
  std::string directory_;
};

TEST_F(Output, OfAFileHasFlagsOfItsOwn) {
  UseFile("log", 0);
  LogOutput output;
  EXPECT_EQ(output.path(), Path("log"));
  EXPECT_EQ(fcntl(STDERR_FILENO, F_GETFL) & (O_NONBLOCK | O_APPEND), 0);
  EXPECT_EQ(fcntl(output.fd(), F_GETFL) & (O_NONBLOCK | O_APPEND), O_NONBLOCK | O_APPEND);
  const auto message = output.Message();
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_TRUE(message->priorities);
  EXPECT_FALSE(message->socket);
}

TEST_F(Output, IsReopened) {
  UseFile("log");
  LogOutput output;
  ASSERT_EQ(write(output.fd(), "old", 3), 3);
  std::filesystem::rename(Path("log"), Path("log.1"));
  ASSERT_TRUE(output.Reopen().ok());
  ASSERT_EQ(write(output.fd(), "new", 3), 3);
  ASSERT_EQ(write(STDERR_FILENO, "er", 2), 2);
  EXPECT_EQ(Read(Path("log.1")), "old");
  EXPECT_EQ(Read(Path("log")), "newer");
  struct stat status;
  ASSERT_EQ(stat(Path("log").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777 & ~0640U, 0U);
}

TEST_F(Output, IsReopenedAsAFileOnly) {
  UseFile("log");
  LogOutput output;
  std::filesystem::rename(Path("log"), Path("log.1"));
  std::filesystem::create_symlink(Path("victim"), Path("log"));
  EXPECT_FALSE(output.Reopen().ok());
  EXPECT_FALSE(std::filesystem::exists(Path("victim")));
  std::filesystem::remove(Path("log"));
  ASSERT_EQ(mkfifo(Path("log").c_str(), 0600), 0);
  EXPECT_FALSE(output.Reopen().ok());
  ASSERT_EQ(write(output.fd(), "goes on", 7), 7);
  EXPECT_EQ(Read(Path("log.1")), "goes on");
}

TEST_F(Output, OfANamelessFileHasNoName) {
  UseFile("log");
  std::filesystem::remove(Path("log"));
  EXPECT_EQ(LogOutput().path(), "");
}

TEST_F(Output, OfASocketIsTheSame) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  dup2(theirs.get(), STDERR_FILENO);
  const LogOutput output;
  EXPECT_TRUE(output.Message()->socket);
  EXPECT_EQ(output.path(), "");
  EXPECT_EQ(fcntl(output.fd(), F_GETFL) & O_NONBLOCK, 0);
}

}  // namespace
}  // namespace tlsbroker::supervisor
