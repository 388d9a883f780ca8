// SPDX-License-Identifier: Apache-2.0
// The real tlsbroker-porter; the test takes the places of its supervisor and of those who connect.

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "broker/supervisor/socket_name.h"
#include "protocol/attach.h"
#include "protocol/channel.h"
#include "protocol/supervision.h"
#include "tests/testlib/reports.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using supervision::Attached;
using supervision::Detached;
using supervision::StatusWanted;

constexpr int kPatienceMs = 30'000;
constexpr uint32_t kUser = 61234;

UniqueFd Copy(const UniqueFd& fd) { return UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

ino_t InodeOf(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

class PorterTest : public NoFdLeaks {
 protected:
  PorterTest() : log_(memfd_create("log", MFD_CLOEXEC)) {
    char name[] = "/tmp/tlsbroker-porter-XXXXXX";
    directory_ = mkdtemp(name);
    std::tie(sending_, queue_) = channel::MakePair();
    std::tie(requests_, answering_) = channel::MakePair();
  }
  ~PorterTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
    std::filesystem::remove_all(directory_);
  }

  void StartProgram() {
    UniqueFd theirs;
    std::tie(control_, theirs) = channel::MakePair();
    ASSERT_EQ(shutdown(control_.get(), SHUT_RD), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, log_.get(), 2);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), 3);
    posix_spawn_file_actions_adddup2(&actions, reports_.bell(), 4);
    posix_spawn_file_actions_adddup2(&actions, reports_.memory(), 5);
    char name[] = "tlsbroker-porter";
    char* const arguments[] = {name, nullptr};
    ASSERT_EQ(posix_spawn(&pid_, TLSBROKER_PORTER, &actions, nullptr, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }

  void Send(const supervision::Message& message) {
    const supervision::Encoded encoded = supervision::Encode(message);
    ASSERT_EQ(channel::Send(control_.get(), encoded.bytes, encoded.fds), channel::Result::kOk);
  }

  // Starts the porter and waits until it is ready.
  void Start(const supervision::Message& duty, int type) {
    StartProgram();
    Send(supervision::Confinement{geteuid() == 0, kUser, kUser});
    Send(duty);
    SendDoor(type);
    Send(supervision::Start{});
    const auto first = Next();
    ASSERT_TRUE(first && std::holds_alternative<supervision::Ready>(*first)) << Log();
  }

  void SendDoor(int type) {
    name_ =
        std::make_unique<supervisor::SocketName>(directory_ + "/name", type, supervisor::Access{});
    auto socket = name_->Bind();
    ASSERT_TRUE(socket.ok());
    Send(supervision::Door{*std::move(socket)});
  }

  supervision::AttachPoint Rules() {
    return {.service = "web",
            .log_level = 6,
            .max_attached = 2,
            .uids = {geteuid()},
            .gids = {},
            .queue = Copy(queue_),
            .requests = Copy(requests_)};
  }
  supervision::StatusPoint Status() {
    UniqueFd self(open("/proc/self", O_PATH | O_CLOEXEC));  // any descriptor will do
    self_ = InodeOf(self.get());
    return {std::move(self)};
  }

  // The porter's next message; heartbeats are only counted.
  std::optional<supervision::Message> Next(int patience = kPatienceMs) {
    const auto end = Clock::now() + milliseconds(patience);
    for (;;) {
      const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now()).count();
      auto message = reports_.Next(pid_, static_cast<int>(std::max<int64_t>(left, 0)));
      if (!message || !std::holds_alternative<supervision::Heartbeat>(*message)) return message;
      ++heartbeats_;
    }
  }
  template <typename T>
  T Expect() {
    auto message = Next();
    if (message && std::holds_alternative<T>(*message)) return std::get<T>(std::move(*message));
    ADD_FAILURE() << "not said; the log: " << Log();
    return T();
  }

  UniqueFd Connect(int type) {
    UniqueFd client(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (directory_ + "/name").c_str());
    EXPECT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0)
        << strerror(errno);
    return client;
  }

  // A connection that another user has made.
  UniqueFd ConnectAs(uid_t user, gid_t group, std::vector<gid_t> groups) {
    auto [ours, theirs] = channel::MakePair();
    const pid_t child = fork();
    if (child == 0) {
      const UniqueFd client(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::strcpy(address.sun_path, (directory_ + "/name").c_str());
      // SO_PEERCRED tells the effective user and group.
      if (setgroups(groups.size(), groups.data()) != 0 || setegid(group) != 0) _exit(1);
      if (seteuid(user) != 0) _exit(2);
      const int result =
          connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
      if (result != 0) _exit(3);
      const int fd = client.get();
      const uint8_t byte = 1;
      channel::Send(theirs.get(), {&byte, 1}, {&fd, 1});
      _exit(0);
    }
    theirs.Reset();
    channel::Message message;
    const auto received = channel::Receive(ours.get(), 1, 1, message);
    waitpid(child, nullptr, 0);
    EXPECT_EQ(received, channel::Result::kOk);
    return message.fds.empty() ? UniqueFd() : std::move(message.fds.front());
  }

  // The answer, and the inode numbers of the descriptors that came with it.
  std::pair<std::optional<attach::Answer>, std::vector<ino_t>> AnswerTo(const UniqueFd& client) {
    pollfd polled{client.get(), POLLIN, 0};
    if (poll(&polled, 1, kPatienceMs) != 1) return {};
    channel::Message message;
    if (channel::Receive(client.get(), attach::kSize, 2, message) != channel::Result::kOk)
      return {};
    std::vector<ino_t> inodes;
    for (const UniqueFd& fd : message.fds) inodes.push_back(InodeOf(fd.get()));
    return {attach::Decode(message.bytes), inodes};
  }

  bool Ends(const UniqueFd& client) {
    pollfd polled{client.get(), POLLIN, 0};
    char byte;
    return poll(&polled, 1, kPatienceMs) == 1 && recv(client.get(), &byte, 1, MSG_DONTWAIT) <= 0;
  }

  int Wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string Log() const {
    std::string text(100'000, '\0');
    const ssize_t n = pread(log_.get(), text.data(), text.size(), 0);
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
  }

  std::string directory_;
  UniqueFd log_, sending_, queue_, requests_, answering_, control_;
  testlib::Reports reports_;
  std::unique_ptr<supervisor::SocketName> name_;
  int heartbeats_ = 0;
  ino_t self_ = 0;
  pid_t pid_ = -1;
};

TEST_F(PorterTest, GivesTheQueueAndKnowsWhoHasIt) {
  Start(Rules(), SOCK_SEQPACKET);
  UniqueFd worker = Connect(SOCK_SEQPACKET);
  const auto [answer, came] = AnswerTo(worker);
  EXPECT_EQ(answer, attach::Answer::kAttached);
  EXPECT_EQ(came, (std::vector<ino_t>{InodeOf(queue_.get()), InodeOf(requests_.get())}));
  const auto attached = Expect<Attached>();
  EXPECT_EQ(attached.pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(attached.uid, geteuid());
  worker.Reset();
  EXPECT_EQ(Expect<Detached>().number, attached.number);
  control_.Reset();
  EXPECT_EQ(Wait(), 0);
  const std::string who =
      "service=web pid=" + std::to_string(getpid()) + " uid=" + std::to_string(geteuid());
  EXPECT_NE(Log().find("<6>attached a worker " + who), std::string::npos) << Log();
  EXPECT_NE(Log().find("<6>detached a worker " + who), std::string::npos) << Log();
}

TEST_F(PorterTest, TooMany) {
  Start(Rules(), SOCK_SEQPACKET);
  const UniqueFd one = Connect(SOCK_SEQPACKET);
  UniqueFd two = Connect(SOCK_SEQPACKET);
  EXPECT_EQ(AnswerTo(one).first, attach::Answer::kAttached);
  EXPECT_EQ(AnswerTo(two).first, attach::Answer::kAttached);
  const UniqueFd three = Connect(SOCK_SEQPACKET);
  const auto [answer, came] = AnswerTo(three);
  EXPECT_EQ(answer, attach::Answer::kTooMany);
  EXPECT_TRUE(came.empty());
  EXPECT_TRUE(Ends(three));
  Expect<Attached>();
  Expect<Attached>();
  two.Reset();
  Expect<Detached>();
  EXPECT_EQ(AnswerTo(Connect(SOCK_SEQPACKET)).first, attach::Answer::kAttached);
}

TEST_F(PorterTest, WhoTalksIsPutOut) {
  Start(Rules(), SOCK_SEQPACKET);
  const UniqueFd worker = Connect(SOCK_SEQPACKET);
  EXPECT_EQ(AnswerTo(worker).first, attach::Answer::kAttached);
  Expect<Attached>();
  EXPECT_EQ(send(worker.get(), "x", 1, 0), 1);
  EXPECT_TRUE(Ends(worker));
  Expect<Detached>();
}

TEST_F(PorterTest, LooksWhoItIs) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  supervision::AttachPoint rules = Rules();
  rules.uids = {100, 101};
  rules.gids = {200, 201};
  rules.max_attached = 100;
  Start(std::move(rules), SOCK_SEQPACKET);
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  ASSERT_EQ(chmod((directory_ + "/name").c_str(), 0666), 0);
  const auto answer = [&](uid_t uid, gid_t gid, std::vector<gid_t> groups) {
    return AnswerTo(ConnectAs(uid, gid, std::move(groups))).first;
  };
  using attach::Answer;
  EXPECT_EQ(answer(0, 0, {}), Answer::kAttached);
  EXPECT_EQ(answer(101, 9, {}), Answer::kAttached);
  EXPECT_EQ(answer(9, 200, {}), Answer::kAttached);
  EXPECT_EQ(answer(9, 9, {7, 201}), Answer::kAttached);
  EXPECT_EQ(answer(9, 9, std::vector<gid_t>(1000, 201)), Answer::kAttached);
  EXPECT_EQ(answer(9, 9, {}), Answer::kNotAllowed);
  EXPECT_EQ(answer(200, 100, {101}), Answer::kNotAllowed);
  EXPECT_EQ(answer(kUser, kUser, {}), Answer::kNotAllowed) << "the porter's own user";
}

TEST_F(PorterTest, OtherRules) {
  Start(Rules(), SOCK_SEQPACKET);
  const UniqueFd before = Connect(SOCK_SEQPACKET);
  EXPECT_EQ(AnswerTo(before).first, attach::Answer::kAttached);
  Expect<Attached>();
  auto [sending, queue] = channel::MakePair();
  const auto other = [&, &queue = queue](uint32_t max_attached, uint8_t log_level) {
    supervision::AttachPoint rules = Rules();
    rules.queue = Copy(queue);
    rules.max_attached = max_attached;
    rules.log_level = log_level;
    return rules;
  };
  Send(other(1, 6));
  EXPECT_EQ(AnswerTo(Connect(SOCK_SEQPACKET)).first, attach::Answer::kTooMany);
  Send(other(2, 3));
  const UniqueFd after = Connect(SOCK_SEQPACKET);
  const auto came = AnswerTo(after).second;
  ASSERT_EQ(came.size(), 2U);
  EXPECT_EQ(came[0], InodeOf(queue.get()));
  Expect<Attached>();
  EXPECT_EQ(Log().find("attached a worker"), Log().rfind("attached a worker"));
  pollfd polled{before.get(), POLLIN, 0};
  EXPECT_EQ(poll(&polled, 1, 0), 0) << "who is attached stays";
}

TEST_F(PorterTest, AnotherDoor) {
  Start(Rules(), SOCK_SEQPACKET);
  const UniqueFd before = Connect(SOCK_SEQPACKET);
  EXPECT_EQ(AnswerTo(before).first, attach::Answer::kAttached);
  SendDoor(SOCK_SEQPACKET);
  Expect<Attached>();
  const auto end = Clock::now() + milliseconds(kPatienceMs);
  UniqueFd after;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (directory_ + "/name").c_str());
  for (int result = -1; result != 0 && Clock::now() < end; usleep(1000)) {
    after.Reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    result = connect(after.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  EXPECT_EQ(AnswerTo(after).first, attach::Answer::kAttached);
  EXPECT_EQ(Expect<Attached>().number, 1U);
}

TEST_F(PorterTest, SaysThatItTurns) {
  Start(Rules(), SOCK_SEQPACKET);
  EXPECT_FALSE(Next(1'600));
  EXPECT_GE(heartbeats_, 3);
  EXPECT_LE(heartbeats_, 5);
}

class PorterStatusTest : public PorterTest {
 protected:
  void Answer(uint32_t request, const std::string& text) {
    supervision::StatusText message{.request = request,
                                    .text = UniqueFd(memfd_create("text", MFD_CLOEXEC))};
    ASSERT_EQ(write(message.text.get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
    Send(std::move(message));
  }
  // Reads to the end; returns the text and the inode number of the first descriptor.
  std::pair<std::string, ino_t> Read(const UniqueFd& client) {
    std::pair<std::string, ino_t> result;
    for (;;) {
      pollfd polled{client.get(), POLLIN, 0};
      if (poll(&polled, 1, kPatienceMs) != 1) return result;
      char buffer[1000];
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
      iovec data{buffer, sizeof(buffer)};
      msghdr message{};
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      const ssize_t n = recvmsg(client.get(), &message, MSG_CMSG_CLOEXEC);
      if (n <= 0) return result;
      result.first.append(buffer, static_cast<size_t>(n));
      const cmsghdr* header = CMSG_FIRSTHDR(&message);
      if (header == nullptr) continue;
      int number;
      std::memcpy(&number, CMSG_DATA(header), sizeof(number));
      const UniqueFd fd(number);
      result.second = InodeOf(fd.get());
    }
  }
};

TEST_F(PorterStatusTest, AsksEachTimeAndSendsTheDescriptorAlong) {
  Start(Status(), SOCK_STREAM);
  for (const size_t size : {size_t{5}, size_t{3'000'000}}) {
    const UniqueFd client = Connect(SOCK_STREAM);
    const std::string text(size, 'x');
    Answer(Expect<StatusWanted>().request, text);
    const auto [came, descriptor] = Read(client);
    EXPECT_TRUE(came == text) << came.size();
    EXPECT_EQ(descriptor, self_);
  }
  control_.Reset();
  EXPECT_EQ(Wait(), 0);
}

TEST_F(PorterStatusTest, OneAfterTheOther) {
  Start(Status(), SOCK_STREAM);
  const UniqueFd one = Connect(SOCK_STREAM);
  const uint32_t first = Expect<StatusWanted>().request;
  const UniqueFd two = Connect(SOCK_STREAM);
  EXPECT_FALSE(Next(300));
  Answer(first, "1");
  const uint32_t second = Expect<StatusWanted>().request;
  Answer(first, "late");
  Answer(second, "2");
  EXPECT_EQ(Read(one).first, "1");
  EXPECT_EQ(Read(two).first, "2");
}

TEST_F(PorterStatusTest, WhoDoesNotReadOrHasNoAnswerMakesNobodyWaitLong) {
  Start(Status(), SOCK_STREAM);
  const UniqueFd silent = Connect(SOCK_STREAM);
  const auto began = Clock::now();
  Answer(Expect<StatusWanted>().request, std::string(3'000'000, 'x'));
  const UniqueFd unanswered = Connect(SOCK_STREAM);
  Expect<StatusWanted>();
  EXPECT_GE(Clock::now() - began, milliseconds(1'900));
  EXPECT_EQ(Read(unanswered).first, "");
  EXPECT_GE(Clock::now() - began, milliseconds(3'900));
  EXPECT_LT(Clock::now() - began, milliseconds(8'000));
  const UniqueFd gone = Connect(SOCK_STREAM);
  Expect<StatusWanted>();
}

TEST_F(PorterStatusTest, WhoIsGoneMakesNobodyWait) {
  Start(Status(), SOCK_STREAM);
  UniqueFd gone = Connect(SOCK_STREAM);
  Expect<StatusWanted>();
  const auto began = Clock::now();
  gone.Reset();
  const UniqueFd next = Connect(SOCK_STREAM);
  Answer(Expect<StatusWanted>().request, "x");
  EXPECT_EQ(Read(next).first, "x");
  EXPECT_LT(Clock::now() - began, milliseconds(1'900));
}

TEST_F(PorterTest, WrongDescriptors) {
  supervision::AttachPoint rules = Rules();
  rules.queue = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  StartProgram();
  Send(supervision::Confinement{geteuid() == 0, kUser, kUser});
  Send(std::move(rules));
  EXPECT_EQ(Wait(), 1);
  EXPECT_NE(Log().find("is of the wrong kind"), std::string::npos) << Log();
}

TEST_F(PorterTest, DoorOfAnotherType) {
  StartProgram();
  Send(supervision::Confinement{geteuid() == 0, kUser, kUser});
  Send(Rules());
  SendDoor(SOCK_STREAM);
  Send(supervision::Start{});
  const auto failed = Expect<supervision::Failed>();
  EXPECT_NE(failed.text.find("is of the wrong kind"), std::string::npos) << failed.text;
  EXPECT_EQ(Wait(), 1);
}

TEST_F(PorterTest, MessagesOutOfOrder) {
  StartProgram();
  Send(supervision::Confinement{geteuid() == 0, kUser, kUser});
  Send(supervision::Start{});
  EXPECT_EQ(Wait(), 1);
  EXPECT_NE(Log().find("out of order"), std::string::npos) << Log();
}

TEST_F(PorterTest, EndsWithTheSupervisor) {
  StartProgram();
  control_.Reset();
  EXPECT_EQ(Wait(), 1);
  EXPECT_NE(Log().find("the supervisor is gone"), std::string::npos) << Log();
}

}  // namespace
}  // namespace tlsbroker
