// SPDX-License-Identifier: Apache-2.0
// Keyholder, handshaker, logger and porter once they are confined: what the kernel says about them,
// and that they can still do their work.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/support/descriptors.h"
#include "protocol/channel.h"
#include "protocol/pipe.h"
#include "tests/isolation/role_fixture.h"

namespace tlsbroker {
namespace {

namespace fs = std::filesystem;

class RoleState : public testing::TestWithParam<std::tuple<Role, SupervisorIs>> {
 protected:
  void SetUp() override {
    if (root() && geteuid() != 0) GTEST_SKIP() << "needs root";
    process_ = StartRole(role(), std::get<1>(GetParam()), [this]() -> int {
      confined_.Announce();
      Stay();
    });
    ASSERT_TRUE(confined_.Await());
  }
  void TearDown() override {
    if (process_ > 0) End(process_);
  }
  const Role& role() const { return std::get<0>(GetParam()); }
  bool root() const { return std::get<1>(GetParam()) == SupervisorIs::kRoot; }
  std::string Proc(const std::string& name) const {
    return "/proc/" + std::to_string(process_) + "/" + name;
  }
  bool SharesNamespace(const std::string& name) const {
    return fs::read_symlink(Proc("ns/" + name)) == fs::read_symlink("/proc/self/ns/" + name);
  }
  // The hard limit, as /proc/PID/limits writes it.
  std::string Limit(const std::string& name) const {
    std::ifstream file(Proc("limits"));
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with(name)) continue;
      char hard[32] = "";
      sscanf(line.c_str() + name.size(), "%*s %31s", hard);
      return hard;
    }
    return "missing";
  }

  pid_t process_ = -1;
  Announcement confined_;
};

TEST_P(RoleState, PrivilegesAreGone) {
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    EXPECT_EQ(StatusField(process_, set), "0000000000000000") << set;
  }
  EXPECT_EQ(StatusField(process_, "NoNewPrivs"), "1");
  EXPECT_EQ(StatusField(process_, "Seccomp"), "2");
}

// What a role can have only if root has started the broker.
class RoleStateByRoot : public RoleState {};

TEST_P(RoleStateByRoot, UserIsItsOwn) {
  const std::string id = std::to_string(kUnprivilegedUser);
  const std::string all = id + "\t" + id + "\t" + id + "\t" + id;
  EXPECT_EQ(StatusField(process_, "Uid"), all);
  EXPECT_EQ(StatusField(process_, "Gid"), all);
  EXPECT_EQ(StatusField(process_, "Groups"), "");
  EXPECT_EQ(StatusField(process_, "CapBnd"), "0000000000000000");
}

TEST_P(RoleStateByRoot, RootIsEmpty) {
  EXPECT_TRUE(fs::is_empty(Proc("root/")));
  std::ofstream file(Proc("root/file"));
  EXPECT_FALSE(file.is_open()) << "even root cannot write there";
  EXPECT_EQ(fs::read_symlink(Proc("cwd")), "/");
}

TEST_P(RoleStateByRoot, NamespacesAreItsOwn) {
  for (const char* name : {"mnt", "ipc"}) EXPECT_FALSE(SharesNamespace(name)) << name;
  EXPECT_EQ(SharesNamespace("net"), std::string(role().name) == "Handshaker");
}

TEST_P(RoleState, MemoryIsOutOfReach) {
  EXPECT_EQ(Limit("Max core file size"), "0");
  // In /proc the files of a process that is not dumpable belong to root (proc(5)).
  if (geteuid() != 0) GTEST_SKIP() << "the rest needs root to look";
  struct stat status;
  ASSERT_EQ(stat(Proc("mem").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  const auto trace = [&]() -> int {
    if (!DropRoot()) return kNotStarted;
    return ErrorOf(ptrace(PTRACE_SEIZE, process_, nullptr, nullptr));
  };
  EXPECT_EQ(RunChild(trace), Refused(EPERM)) << "by a process of the same user";
}

TEST_P(RoleState, NoChildren) { EXPECT_EQ(Limit("Max processes"), "0"); }

// The roles that have many connections.
class ConnectedRoleState : public RoleState {};

TEST_P(ConnectedRoleState, DescriptorLimit) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlim_t expected = limit.rlim_max;
  if (std::string(role().name) == "Handshaker") {
    // A handshaker watches all its connections, and its user may watch only so many descriptors.
    rlim_t watches = 0;
    std::ifstream("/proc/sys/fs/epoll/max_user_watches") >> watches;
    ASSERT_GT(watches, 0U);
    expected = std::min(expected, watches / 8);
  }
  EXPECT_EQ(std::stoull(Limit("Max open files")), expected);
}

constexpr auto kSupervisors = {SupervisorIs::kRoot, SupervisorIs::kUser};
constexpr auto kName = [](const auto& test) {
  return std::string(std::get<0>(test.param).name) +
         (std::get<1>(test.param) == SupervisorIs::kRoot ? "Root" : "User");
};
const auto kRoles = testing::Values(kKeyholder, kHandshaker, kLogger, kPorter);
INSTANTIATE_TEST_SUITE_P(Of, RoleState, testing::Combine(kRoles, testing::ValuesIn(kSupervisors)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Of, RoleStateByRoot,
                         testing::Combine(kRoles, testing::Values(SupervisorIs::kRoot)), kName);
INSTANTIATE_TEST_SUITE_P(Of, ConnectedRoleState,
                         testing::Combine(testing::Values(kHandshaker, kPorter),
                                          testing::ValuesIn(kSupervisors)),
                         kName);

// Opening a file ends the process, but in a sanitized build it fails with an error number, since
// the sanitizer's run-time looks for names to put into a report.
constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__)
    true;
#else
    false;
#endif

class RoleWork : public testing::TestWithParam<Role> {
 protected:
  Outcome Do(const std::function<int()>& work) {
    const auto supervisor = geteuid() == 0 ? SupervisorIs::kRoot : SupervisorIs::kUser;
    return Wait(StartRole(GetParam(), supervisor, work));
  }
};

TEST_P(RoleWork, OpensNoFile) {
  const Outcome denial = kSanitized ? Refused(EACCES) : Killed(SIGSYS);
  EXPECT_EQ(Do([] { return ErrorOf(open("/", O_RDONLY)); }), denial);
  struct stat status;
  EXPECT_EQ(Do([&] { return ErrorOf(stat("/", &status)); }), Killed(SIGSYS));
  EXPECT_EQ(Do([] { return ErrorOf(open("file", O_WRONLY | O_CREAT, 0600)); }), denial);
}

TEST_P(RoleWork, SanitizerCanReport) {
  if (!kSanitized) return;
  const auto overflow = [] {
    const auto buffer = std::make_unique<char[]>(10);
    volatile char* end = buffer.get() + 10;
    return static_cast<int>(*end);
  };
  EXPECT_EQ(Do(overflow), Refused(1)) << "the exit status of a program with a report";
}

TEST_P(RoleWork, Memory) {
  const auto allocate = [] {
    std::vector<std::string> strings(100'000, std::string(100, 'x'));
    std::string large(64 << 20, 'y');
    large.resize(128 << 20);
    return strings.back()[0] == 'x' && large[0] == 'y' ? 0 : EINVAL;
  };
  EXPECT_EQ(Do(allocate), kSucceeded);
}

TEST_P(RoleWork, ExceptionsTimeAndRandomness) {
  const auto work = [] {
    try {
      throw std::string("caught");
    } catch (const std::string&) {
    }
    char bytes[16];
    timespec now;
    return getrandom(bytes, 16, 0) == 16 && clock_gettime(CLOCK_REALTIME, &now) == 0 ? 0 : EINVAL;
  };
  EXPECT_EQ(Do(work), kSucceeded);
}

TEST_P(RoleWork, Abort) {
  EXPECT_EQ(Do([]() -> int { abort(); }), Killed(SIGABRT));
}

// Without the porter, which only reads from the supervisor: tests/unit/porter_test.cc.
class ChannelWork : public RoleWork {};

TEST_P(ChannelWork, ControlChannelWithDescriptors) {
  auto [here, there] = channel::MakePair();
  if (here.get() == kControlDescriptor) std::swap(here, there);
  if (there.get() != kControlDescriptor) {
    ASSERT_EQ(fcntl(kControlDescriptor, F_GETFD), -1) << "in use";
    there = UniqueFd(dup3(there.get(), kControlDescriptor, O_CLOEXEC));
  }
  const auto receive = [] {
    pollfd entry = {.fd = kControlDescriptor, .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, 5000) != 1) return ETIMEDOUT;
    channel::Message message;
    const auto result = channel::Receive(kControlDescriptor, 100, 1, message);
    return result == channel::Result::kOk && message.fds.size() == 1 ? 0 : EBADMSG;
  };
  const uint8_t bytes[] = {1, 2, 3};
  const int fd = here.get();
  ASSERT_EQ(channel::Send(here.get(), bytes, {&fd, 1}), channel::Result::kOk);
  EXPECT_EQ(Do(receive), kSucceeded);
}

TEST_P(ChannelWork, Pipes) {
  const pipes::Pipe there = pipes::Make();
  const pipes::Pipe back = pipes::Make();
  const auto echo = [&]() -> int {
    pollfd entry = {.fd = there.reading.get(), .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, 5000) != 1) return ETIMEDOUT;
    pipes::Reader reader(100);
    if (reader.Next(there.reading.get()) != pipes::Result::kOk) return EBADMSG;
    return pipes::Send(back.writing.get(), reader.message()) == pipes::Result::kOk ? 0 : EPIPE;
  };
  const uint8_t bytes[] = {1, 2, 3};
  ASSERT_EQ(pipes::Send(there.writing.get(), bytes), pipes::Result::kOk);
  EXPECT_EQ(Do(echo), kSucceeded);
  pipes::Reader reader(100);
  EXPECT_EQ(reader.Next(back.reading.get()), pipes::Result::kOk);
}

INSTANTIATE_TEST_SUITE_P(Of, RoleWork, kRoles,
                         [](const auto& test) { return std::string(test.param.name); });
INSTANTIATE_TEST_SUITE_P(Of, ChannelWork, testing::Values(kKeyholder, kHandshaker),
                         [](const auto& test) { return std::string(test.param.name); });

// A logger takes pipes, reads them, and writes to the descriptor that it has as its output.
class LoggerWork : public RoleWork {};

TEST_P(LoggerWork, PipesAndOutputs) {
  int pipe_ends[2];
  int stream[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
  const auto [here, there] = channel::MakePair();
  const uint8_t byte = 1;
  ASSERT_EQ(channel::Send(here.get(), {&byte, 1}, {pipe_ends, 1}), channel::Result::kOk);
  ASSERT_EQ(write(pipe_ends[1], "line\n", 5), 5);
  const auto work = [&, control = there.get()]() -> int {
    channel::Message message;
    if (channel::Receive(control, 100, 1, message) != channel::Result::kOk) return EBADMSG;
    char line[10];
    pollfd entry = {.fd = message.fds[0].get(), .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, 5000) != 1 || read(entry.fd, line, sizeof(line)) != 5) return EIO;
    if (send(stream[0], line, 5, MSG_DONTWAIT | MSG_NOSIGNAL) != 5) return errno;
    return write(pipe_ends[1], line, 5) == 5 ? 0 : errno;
  };
  EXPECT_EQ(Do(work), kSucceeded);
  for (const int fd : {pipe_ends[0], pipe_ends[1], stream[0], stream[1]}) UniqueFd(fd).Reset();
}

INSTANTIATE_TEST_SUITE_P(Of, LoggerWork, testing::Values(kLogger),
                         [](const auto& test) { return std::string(test.param.name); });

// What a handshaker's event loop does, and each step of a connection.
class HandshakerWork : public RoleWork {};

TEST_P(HandshakerWork, EventLoop) {
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  const UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const auto work = [&] {
    const itimerspec soon = {.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1}};
    epoll_event entry = {.events = EPOLLIN, .data = {.fd = timer.get()}};
    if (timerfd_settime(timer.get(), 0, &soon, nullptr) != 0) return errno;
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &entry) != 0) return errno;
    return epoll_wait(epoll.get(), &entry, 1, 5000) == 1 ? 0 : ETIMEDOUT;
  };
  EXPECT_EQ(Do(work), kSucceeded);
}

TEST_P(HandshakerWork, Connection) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), name, size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  ASSERT_EQ(getsockname(listener.get(), name, &size), 0);
  ASSERT_EQ(connect(client.get(), name, size), 0);
  const auto serve = [&]() -> int {
    const UniqueFd socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int on = 1;
    uint64_t cookie = 0;
    socklen_t room = sizeof(cookie);
    int pair[2];
    if (setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) return errno;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &room) != 0) return errno;
    if (ioctl(socket.get(), FIONBIO, &on) != 0) return errno;
    if (fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) return errno;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno;
    if (send(socket.get(), "x", 1, MSG_NOSIGNAL) != 1) return errno;
    return ErrorOf(shutdown(socket.get(), SHUT_WR));
  };
  EXPECT_EQ(Do(serve), kSucceeded);
}

INSTANTIATE_TEST_SUITE_P(Of, HandshakerWork, testing::Values(kHandshaker),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace tlsbroker
