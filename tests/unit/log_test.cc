// SPDX-License-Identifier: Apache-2.0
// How a process writes its log: into a pipe that may have no room and no reader.

#include "broker/support/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <climits>
#include <sstream>
#include <string>
#include <utility>

#include "protocol/pipe.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

using testing::EndsWith;
using testing::StartsWith;

class LogTest : public testing::Test {
 protected:
  LogTest() : pipe_(pipes::Make()), standard_error_(dup(STDERR_FILENO)) {
    dup2(pipe_.writing.get(), STDERR_FILENO);
  }
  ~LogTest() override { dup2(standard_error_.get(), STDERR_FILENO); }

  std::string Read() {
    std::string text(1 << 20, '\0');
    const ssize_t n = read(pipe_.reading.get(), text.data(), text.size());
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
  }

  pipes::Pipe pipe_;
  UniqueFd standard_error_;
};

TEST_F(LogTest, WithAndWithoutALogger) {
  log::Init("program", log::Level::kNotice);
  log::Notice("one");
  log::Info("below the level");
  EXPECT_EQ(Read(), "<5>program: one\n");
  log::InitBehindLogger(log::Level::kInfo);
  log::Error("two");
  log::Debug("below the level");
  log::SetLevel(log::Level::kDebug);
  log::Debug("three");
  EXPECT_EQ(Read(), "<3>two\n<7>three\n");
}

TEST_F(LogTest, TheSupervisorGoesOver) {
  pipes::Pipe other = pipes::Make();
  log::Init("tlsbrokerd", log::Level::kInfo);
  log::UseLogger(other.writing.get());
  log::Info("to the logger");
  EXPECT_EQ(Read(), "");
  log::UseDescriptor(STDERR_FILENO);
  log::Info("to standard error");
  EXPECT_EQ(Read(), "<6>tlsbrokerd: to standard error\n");
  pipe_.reading = std::move(other.reading);
  EXPECT_EQ(Read(), "<6>to the logger\n");
}

TEST_F(LogTest, LongLinesAreCut) {
  log::InitBehindLogger(log::Level::kInfo);
  log::Info(std::string(100'000, 'x'));
  const std::string line = Read();
  EXPECT_EQ(line.size(), size_t{PIPE_BUF});
  EXPECT_THAT(line, StartsWith("<6>xxx"));
  EXPECT_THAT(line, EndsWith("xxx [cut]\n"));
  const std::string longest(PIPE_BUF - 4, 'x');
  log::Info(longest);
  EXPECT_EQ(Read(), "<6>" + longest + "\n");
}

TEST_F(LogTest, WhatHasNoRoomIsCounted) {
  log::InitBehindLogger(log::Level::kInfo);
  const std::string text(1'000, 'x');
  for (int i = 0; i < 200; ++i) log::Info(text);
  std::string read = Read();
  log::Info("room again");
  read += Read();
  EXPECT_THAT(read, EndsWith(" lines lost (the log had no room)\n<6>room again\n"));
  // The line with the count is short, and finds room in the pipe where another line does not.
  int written = 0;
  int lost = 0;
  std::istringstream lines(read);
  for (std::string line; std::getline(lines, line);) {
    if (line == "<6>" + text) ++written;
    if (line.starts_with("<4>")) lost += std::stoi(line.substr(3));
  }
  EXPECT_GT(written, 0);
  EXPECT_GT(lost, 0);
  EXPECT_EQ(written + lost, 200);
  log::Info("said once");
  EXPECT_EQ(Read(), "<6>said once\n");
}

TEST_F(LogTest, NobodyDiesWithoutAReader) {
  log::InitBehindLogger(log::Level::kInfo);
  pipe_.reading.Reset();
  log::Info("into nothing");
  pipe_ = pipes::Make();
  dup2(pipe_.writing.get(), STDERR_FILENO);
  log::Info("after all");
  EXPECT_EQ(Read(), "<4>1 lines lost (the log had no room)\n<6>after all\n");
}

}  // namespace
}  // namespace tlsbroker
