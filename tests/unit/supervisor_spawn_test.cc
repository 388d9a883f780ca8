// SPDX-License-Identifier: Apache-2.0
// What a program finds when it is started: its descriptors, and nothing else of the supervisor's.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <optional>

#include "broker/supervisor/spawn.h"
#include "protocol/channel.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SpawnTest : public NoFdLeaks {};

absl::StatusOr<Process> Spawn(const SpawnRequest& request) {
  asio::io_context io(1);
  std::optional<absl::StatusOr<Process>> result;
  asio::co_spawn(io, supervisor::Spawn(io.get_executor(), request),
                 [&result](const std::exception_ptr&, absl::StatusOr<Process> process) {
                   result = std::move(process);
                 });
  io.run();
  return *std::move(result);
}

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  return text;
}

// The report of tests/unit/supervisor_child.cc.
std::string ReportOf(SpawnRequest request) {
  auto [ours, theirs] = channel::MakePair();
  request.arguments = {SUPERVISOR_CHILD, "report"};
  request.fds = {theirs.get()};
  const auto process = Spawn(request);
  if (!process.ok()) return std::string(process.status().message());
  theirs.Reset();
  const std::string text = ReadToEnd(ours.get());
  waitpid(process->pid, nullptr, 0);
  return text;
}

TEST_F(SpawnTest, DescriptorsAreExactlyTheTable) {
  const UniqueFd inheritable(open("/dev/zero", O_RDONLY));
  const UniqueFd high(fcntl(inheritable.get(), F_DUPFD, 500));
  char log[256] = {};
  ASSERT_GT(readlink("/proc/self/fd/2", log, sizeof(log) - 1), 0);
  EXPECT_THAT(ReportOf({}), ::testing::StartsWith(
                                "0=/dev/null\n1=/dev/null\n2=" + std::string(log) + "\n3=socket:"));
  EXPECT_THAT(ReportOf({}), Not(HasSubstr("\n4=")));
  EXPECT_THAT(ReportOf({.log_stdout = true}),
              ::testing::StartsWith("0=/dev/null\n1=" + std::string(log) + "\n"));
}

// Whether each process has an inode number of its own (Linux 6.9).
bool KernelHasPidfs() {
  const UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  const UniqueFd parent(static_cast<int>(syscall(SYS_pidfd_open, getppid(), 0)));
  struct stat one {};
  struct stat other {};
  return fstat(self.get(), &one) == 0 && fstat(parent.get(), &other) == 0 &&
         one.st_ino != other.st_ino;
}

TEST_F(SpawnTest, ReceiverIsNamedByItsPidfd) {
  if (!KernelHasPidfs()) GTEST_SKIP() << "needs Linux 6.9";
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  // The process stays, so that its pidfd can be looked at.
  auto process = Spawn({.arguments = {"/bin/sh", "-c", "echo $LISTEN_PIDFDID >&3; exec sleep 1000"},
                        .fds = {write_end.get()},
                        .listen_pid = true});
  ASSERT_TRUE(process.ok()) << process.status();
  char text[64] = {};
  EXPECT_GT(read(read_end.get(), text, sizeof(text) - 1), 0);
  struct stat status {};
  EXPECT_EQ(fstat(process->pidfd.get(), &status), 0);
  kill(process->pid, SIGKILL);
  EXPECT_EQ(waitpid(process->pid, nullptr, 0), process->pid);
  EXPECT_EQ(std::string(text), std::to_string(status.st_ino) + "\n");
}

TEST_F(SpawnTest, EnvironmentIsExactlyWhatWasAskedFor) {
  setenv("SUPERVISOR_SECRET", "1", 1);
  const std::string report = ReportOf({.environment = {"A=b"}, .listen_pid = true});
  EXPECT_THAT(report, HasSubstr("\nA=b\nLISTEN_PID="));
  EXPECT_THAT(report, Not(HasSubstr("SUPERVISOR_SECRET")));
  const std::string pid = report.substr(report.find("\npid=") + 5,
                                        report.find("\nsession") - report.find("\npid=") - 5);
  EXPECT_THAT(report, HasSubstr("\nLISTEN_PID=" + pid + "\n"));
  EXPECT_EQ(report.find("\nLISTEN_PIDFDID=") != report.npos, KernelHasPidfs());
}

TEST_F(SpawnTest, SignalsAndSessionAreAsFromTheStart) {
  const auto old = signal(SIGPIPE, SIG_IGN);
  sigset_t blocked, saved;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  sigprocmask(SIG_BLOCK, &blocked, &saved);
  const std::string report = ReportOf({});
  sigset_t after;
  sigprocmask(SIG_SETMASK, &saved, &after);
  signal(SIGPIPE, old);
  EXPECT_THAT(report, HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(report, HasSubstr("SigIgn:\t0000000000000000"));
  EXPECT_THAT(report, HasSubstr("session=own"));
  EXPECT_THAT(report, HasSubstr("directory=/\n"));
  EXPECT_TRUE(sigismember(&after, SIGUSR2)) << "the parent's own mask was changed";
}

// If the supervisor was started with its standard descriptors closed, other files have these
// numbers.
TEST_F(SpawnTest, SourcesMayHaveTheNumbersOfTargets) {
  const UniqueFd saved(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 100));
  auto [ours, theirs] = channel::MakePair();
  ASSERT_EQ(dup2(theirs.get(), STDOUT_FILENO), STDOUT_FILENO);
  const auto process = Spawn({.arguments = {SUPERVISOR_CHILD, "report"}, .fds = {STDOUT_FILENO}});
  dup2(saved.get(), STDOUT_FILENO);
  theirs.Reset();
  ASSERT_TRUE(process.ok()) << process.status();
  const std::string report = ReadToEnd(ours.get());
  waitpid(process->pid, nullptr, 0);
  EXPECT_THAT(report, HasSubstr("1=/dev/null\n"));
  EXPECT_THAT(report, HasSubstr("\n3=socket:"));
}

TEST_F(SpawnTest, FailureOfExecSaysWhyAndLeavesNoProcess) {
  const auto process = Spawn({.arguments = {"/nonexistent/program"}, .fds = {STDIN_FILENO}});
  EXPECT_EQ(process.status().message(),
            "executing /nonexistent/program: No such file or directory");
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(SpawnTest, FailureOfConfinementSaysWhyAndNothingIsExecuted) {
  const auto process = Spawn({.arguments = {"/bin/false"}, .fds = {STDIN_FILENO}, .confine = [] {
                                return absl::InternalError("not confined");
                              }});
  EXPECT_EQ(process.status().message(), "not confined");
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

// Any process of the user that the child becomes can stop the child: the supervisor does not wait
// for it.
TEST_F(SpawnTest, OneThatIsStoppedOnItsWayIsKilled) {
  asio::io_context io(1);
  const SpawnRequest request{.arguments = {"/bin/true"}, .fds = {STDIN_FILENO}, .confine = [] {
                               raise(SIGSTOP);
                               return absl::OkStatus();
                             }};
  std::optional<absl::StatusOr<Process>> result;
  int turns = 0;
  asio::co_spawn(io, supervisor::Spawn(io.get_executor(), request),
                 [&result](const std::exception_ptr&, absl::StatusOr<Process> process) {
                   result = std::move(process);
                 });
  const auto begun = std::chrono::steady_clock::now();
  for (asio::steady_timer timer(io); !result; ++turns) {
    timer.expires_after(std::chrono::milliseconds(10));
    timer.async_wait([](const asio::error_code&) {});
    io.run_one();
  }
  EXPECT_GT(turns, 20);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, kSpawnTimeout);
  EXPECT_THAT(std::string(result->status().message()), HasSubstr("somebody has stopped it"));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
}

TEST_F(SpawnTest, BadDescriptorIsAnError) {
  EXPECT_THAT(std::string(Spawn({.arguments = {"/bin/true"}, .fds = {-1}}).status().message()),
              HasSubstr("moving a descriptor: Bad file descriptor"));
}

// This test is the last, since it changes this process's limit.
TEST_F(SpawnTest, ZChildrenKeepTheOldDescriptorLimit) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 200;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  RaiseDescriptorLimit();
  getrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_EQ(limit.rlim_cur, limit.rlim_max);
  auto [ours, theirs] = channel::MakePair();
  const auto process =
      Spawn({.arguments = {"/bin/sh", "-c", "ulimit -n >&3"}, .fds = {theirs.get()}});
  theirs.Reset();
  EXPECT_EQ(ReadToEnd(ours.get()), "200\n");
  waitpid(process->pid, nullptr, 0);
}

}  // namespace
}  // namespace tlsbroker::supervisor
