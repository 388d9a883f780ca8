// SPDX-License-Identifier: Apache-2.0
// tlsbrokerd as a whole, with the real keyholder and handshakers: exit codes and messages, reload,
// restarts, and the order in which processes end.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "protocol/unique_fd.h"
#include "tests/testlib/certificate.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kPatience = std::chrono::seconds(30);

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

UniqueFd BindTcp(int port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  return fd;
}

int PortOf(const UniqueFd& fd) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

bool Connects(int port) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// Passes a socket as a service manager does, between fork and exec.
void PassSocket(const UniqueFd& socket, const char* name) {
  const UniqueFd copy(fcntl(socket.get(), F_DUPFD_CLOEXEC, 10));
  dup2(copy.get(), 3);
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", "1", 1);
  setenv("LISTEN_FDNAMES", name, 1);
}

// A running tlsbrokerd and its output. It is ended with the test.
class Daemon {
 public:
  // `prepare` runs in the child before exec.
  explicit Daemon(std::vector<std::string> arguments, const std::function<void()>& prepare = {}) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    output_ = UniqueFd(ends[0]);
    const UniqueFd write_end(ends[1]);
    pid_ = fork();
    if (pid_ != 0) return;
    dup2(write_end.get(), STDOUT_FILENO);
    dup2(write_end.get(), STDERR_FILENO);
    if (prepare) prepare();
    std::vector<char*> argv;
    arguments.insert(arguments.begin(), TLSBROKERD);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    if (pid_ <= 0) return;
    kill(pid_, SIGQUIT);
    ReadUntil([] { return false; });
    waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  const std::string& log() const { return log_; }

  bool Says(const std::string& text) {
    return ReadUntil([this, &text] { return log_.find(text) != log_.npos; });
  }

  // The log is a pipe that all processes of the broker hold: it ends when all of them have ended.
  bool all_ended() const { return end_of_log_; }

  bool Says(const std::string& text, size_t times) {
    return ReadUntil([this, &text, times] { return Count(text) >= times; });
  }

  // How many times the text was said so far.
  size_t Count(const std::string& text) const {
    size_t count = 0;
    for (size_t at = 0; (at = log_.find(text, at)) != log_.npos; ++at) ++count;
    return count;
  }

  // Waits for the end of the daemon and of all its children.
  int ExitStatus() {
    ReadUntil([] { return false; });
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // The pid in the last line of the log that says `what`; 0 if there is none.
  pid_t PidOf(const std::string& what) const {
    const size_t line = log_.rfind(what);
    if (line == log_.npos) return 0;
    return std::stoi(log_.substr(log_.find("pid=", line) + 4));
  }

 private:
  bool ReadUntil(const std::function<bool()>& condition) {
    const auto end = Clock::now() + kPatience;
    while (!condition()) {
      const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
      pollfd state{output_.get(), POLLIN, 0};
      if (left.count() <= 0 || poll(&state, 1, static_cast<int>(left.count())) <= 0) return false;
      char buffer[4096];
      const ssize_t n = read(output_.get(), buffer, sizeof(buffer));
      end_of_log_ = n == 0;
      if (n <= 0) return condition();
      log_.append(buffer, static_cast<size_t>(n));
    }
    return true;
  }

  pid_t pid_ = -1;
  UniqueFd output_;
  std::string log_;
  bool end_of_log_ = false;
};

class DaemonTest : public NoFdLeaks {
 protected:
  DaemonTest() {
    char name[] = "/tmp/tlsbrokerd-test-XXXXXX";
    directory_ = mkdtemp(name);
    chmod(directory_.c_str(), 0755);
    const testlib::Identity identity("P-256");
    const testlib::Identity other("P-256");
    Write("c.pem", testlib::Pem(identity.certificate.get()));
    Write("k.pem", testlib::Pem(identity.key.get()));
    Write("other.pem", testlib::Pem(other.key.get()));
    port_ = PortOf(BindTcp(0));
    WriteConfig();
  }
  ~DaemonTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(Path(name)) << text;
    chmod(Path(name).c_str(), 0600);
  }

  void WriteConfig(const std::string& key = "k.pem", const std::string& more = "",
                   const std::string& listen = "") {
    std::ostringstream text;
    text << "[broker]\nruntime_dir = \"" << Path("run") << "\"\nuser = \"nobody\"\n"
         << "handshake_timeout = \"5s\"\ndrain_timeout = \"2s\"\n"
         << "[certificate.example]\nchain = \"" << Path("c.pem") << "\"\nkey = \"" << Path(key)
         << "\"\n[service.web]\nlisten = ["
         << (listen.empty() ? "\"127.0.0.1:" + std::to_string(port_) + "\"" : listen)
         << "]\ncertificates = [\"example\"]\n[service.web.worker]\ncommand = [\""
         << SUPERVISOR_CHILD << "\", \"serve\"]\nuser = \"daemon\"\n"
         << more;
    Write("broker.toml", text.str());
  }

  std::vector<std::string> Config() const { return {"--config", Path("broker.toml")}; }
  std::vector<std::string> Check() const { return {"--check", "--config", Path("broker.toml")}; }

  std::string directory_;
  int port_ = 0;
};

TEST_F(DaemonTest, HelpVersionAndWrongUsage) {
  Daemon help({"--help"});
  EXPECT_EQ(help.ExitStatus(), 0);
  EXPECT_THAT(help.log(), AllOf(HasSubstr("usage: tlsbrokerd [--config FILE]"), HasSubstr("USR1")));
  Daemon version({"--version"});
  EXPECT_EQ(version.ExitStatus(), 0);
  EXPECT_THAT(version.log(), ::testing::StartsWith("tlsbrokerd "));
  EXPECT_EQ(Daemon({"--config", ""}).ExitStatus(), 2);
  Daemon without({"--check"});
  without.ExitStatus();
  EXPECT_THAT(without.log(), HasSubstr("/etc/tlsbroker/broker.toml:"));
  EXPECT_EQ(Daemon({"--nonsense"}).ExitStatus(), 2);
  EXPECT_EQ(Daemon({"--config", "/x", "surplus"}).ExitStatus(), 2);
}

TEST_F(DaemonTest, CheckIsQuietWhenAllIsRight) {
  Daemon daemon(Check());
  EXPECT_EQ(daemon.ExitStatus(), 0);
  EXPECT_THAT(daemon.log(), ::testing::EndsWith(Path("broker.toml") + ": ok\n"));
}

TEST_F(DaemonTest, CheckDoesNotListen) {
  const UniqueFd taken = BindTcp(port_);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  EXPECT_EQ(Daemon(Check()).ExitStatus(), 0);
}

TEST_F(DaemonTest, KeyThatDoesNotMatchIsFoundByTheKeyholder) {
  WriteConfig("other.pem");
  Daemon check(Check());
  EXPECT_EQ(check.ExitStatus(), 78);
  EXPECT_THAT(check.log(), HasSubstr(Path("broker.toml") + ":8:7: certificate \"example\": "));
  Daemon start(Config());
  EXPECT_EQ(start.ExitStatus(), 78);
  EXPECT_THAT(start.log(), HasSubstr(Path("broker.toml") + ":8:7: certificate \"example\": "));
  EXPECT_FALSE(Connects(port_));
}

TEST_F(DaemonTest, ChainThatIsNoChain) {
  Write("c.pem", "nonsense\n");
  Daemon check(Check());
  EXPECT_EQ(check.ExitStatus(), 78);
  EXPECT_THAT(check.log(), HasSubstr(Path("broker.toml") + ":7:9: certificate \"example\": "));
}

TEST_F(DaemonTest, ListenerInUse) {
  const UniqueFd taken = BindTcp(port_);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  Daemon daemon(Config());
  EXPECT_TRUE(daemon.Says(Path("broker.toml") + ":10:11: cannot listen on \"127.0.0.1:" +
                          std::to_string(port_) + "\" yet: Address already in use; "));
  kill(daemon.pid(), SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

TEST_F(DaemonTest, AllErrorsAtOnce) {
  WriteConfig("missing.pem", "colour = \"red\"\ncount = 0\n");
  Daemon daemon(Config());
  EXPECT_EQ(daemon.ExitStatus(), 78);
  EXPECT_EQ(daemon.Count(Path("broker.toml") + ":"), 2u) << daemon.log();
}

TEST_F(DaemonTest, SecondBrokerInTheSameRuntimeDirectory) {
  Daemon first(Config());
  ASSERT_TRUE(first.Says("ready generation=1")) << first.log();
  const int port = PortOf(BindTcp(0));
  WriteConfig("k.pem", "", "\"127.0.0.1:" + std::to_string(port) + "\"");
  Daemon second(Config());
  EXPECT_EQ(second.ExitStatus(), 78);
  EXPECT_THAT(second.log(), HasSubstr(":2:15: another broker runs in "));
}

TEST_F(DaemonTest, TermEndsHandshakersThenWorkersThenTheKeyholder) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=worker")) << daemon.log();
  EXPECT_TRUE(Connects(port_));
  kill(daemon.pid(), SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0);
  const std::string& log = daemon.log();
  const size_t handshakers = log.rfind("ended role=handshaker[");
  const size_t worker = log.find("ended role=worker");
  const size_t keyholder = log.find("ended role=keyholder");
  ASSERT_NE(keyholder, log.npos) << log;
  EXPECT_LT(handshakers, worker) << log;
  EXPECT_LT(worker, keyholder) << log;
  EXPECT_FALSE(Connects(port_));
}

TEST_F(DaemonTest, QuitEndsAtOnce) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=worker")) << daemon.log();
  const auto begin = Clock::now();
  kill(daemon.pid(), SIGQUIT);
  EXPECT_EQ(daemon.ExitStatus(), 0);
  EXPECT_LT(Clock::now() - begin, milliseconds(1500));
}

TEST_F(DaemonTest, TermDuringTheStartEndsToo) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=keyholder"));
  kill(daemon.pid(), SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0) << daemon.log();
}

TEST_F(DaemonTest, ReloadOpensAndClosesListeners) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=worker")) << daemon.log();
  const int old_port = port_;
  port_ = PortOf(BindTcp(0));
  WriteConfig();
  kill(daemon.pid(), SIGHUP);
  ASSERT_TRUE(daemon.Says("ready generation=2")) << daemon.log();
  EXPECT_TRUE(Connects(port_));
  ASSERT_TRUE(daemon.Says("ended role=keyholder service=web generation=1")) << daemon.log();
  EXPECT_FALSE(Connects(old_port));
  EXPECT_EQ(daemon.Count("started role=worker"), 1u) << "an unchanged worker was restarted";
}

TEST_F(DaemonTest, ReloadOfABadConfigurationChangesNothing) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("ready generation=1")) << daemon.log();
  WriteConfig("other.pem");
  kill(daemon.pid(), SIGHUP);
  ASSERT_TRUE(daemon.Says("reload failed")) << daemon.log();
  EXPECT_THAT(daemon.log(), HasSubstr(":8:7: certificate \"example\": "));
  WriteConfig("k.pem", "colour = 1\n");
  kill(daemon.pid(), SIGHUP);
  ASSERT_TRUE(daemon.Says("unknown key 'colour'")) << daemon.log();
  EXPECT_TRUE(Connects(port_));
  kill(daemon.pid(), SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0) << daemon.log();
}

TEST_F(DaemonTest, ReloadRestartsChangedWorkers) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=worker")) << daemon.log();
  const pid_t old_worker = daemon.PidOf("started role=worker");
  WriteConfig("k.pem", "count = 2\n");
  kill(daemon.pid(), SIGHUP);
  ASSERT_TRUE(daemon.Says("ended role=worker service=web pid=" + std::to_string(old_worker)));
  EXPECT_TRUE(daemon.Says("started role=worker", 3)) << daemon.log();
}

class DyingChildTest : public DaemonTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(DyingChildTest, IsReplacedByANewGeneration) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("ready generation=1")) << daemon.log();
  const pid_t victim = daemon.PidOf(std::string("started role=") + GetParam());
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  ASSERT_TRUE(daemon.Says("ready generation=2")) << daemon.log();
  ASSERT_TRUE(daemon.Says("ended role=keyholder service=web generation=1")) << daemon.log();
  EXPECT_TRUE(Connects(port_));
}

// The other handshakers go on.
TEST_F(DaemonTest, DyingHandshakerIsReplacedByAnother) {
  WriteConfig("k.pem", "[service.web.handshakers]\nmin = 2\n");
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("ready generation=1 service=web handshakers=2")) << daemon.log();
  kill(daemon.PidOf("started role=handshaker[1]"), SIGKILL);
  ASSERT_TRUE(daemon.Says("started role=handshaker[2] service=web generation=1")) << daemon.log();
  EXPECT_TRUE(Connects(port_));
  EXPECT_EQ(daemon.Count("ended role=handshaker[0]"), 0u) << daemon.log();
  EXPECT_EQ(daemon.Count("generation=2"), 0u) << daemon.log();
}

INSTANTIATE_TEST_SUITE_P(Roles, DyingChildTest, ::testing::Values("keyholder"));

// Established direct connections do not need the broker, but its own processes must not stay
// behind.
TEST_F(DaemonTest, KeyholderAndHandshakersDoNotSurviveTheSupervisor) {
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("started role=worker")) << daemon.log();
  kill(daemon.pid(), SIGKILL);
  EXPECT_EQ(daemon.ExitStatus(), -SIGKILL);
  EXPECT_TRUE(daemon.all_ended()) << "somebody is left";
}

TEST_F(DaemonTest, TellsTheServiceManager) {
  const UniqueFd manager(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = Path("notify");
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(manager.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const timeval patience{30, 0};
  setsockopt(manager.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const auto next = [&manager] {
    char buffer[256];
    const ssize_t n = recv(manager.get(), buffer, sizeof(buffer), 0);
    return std::string(buffer, n > 0 ? static_cast<size_t>(n) : 0);
  };

  Daemon daemon(Config(), [&path] { setenv("NOTIFY_SOCKET", path.c_str(), 1); });
  EXPECT_EQ(next(), "READY=1\nSTATUS=serving");
  WriteConfig("missing.pem");
  kill(daemon.pid(), SIGHUP);
  EXPECT_THAT(next(), ::testing::StartsWith("RELOADING=1\nMONOTONIC_USEC="));
  EXPECT_THAT(next(), ::testing::MatchesRegex(
                          "READY=1\nSTATUS=serving; the last reload failed: .*/broker.toml:"
                          "[0-9]*:[0-9]*: \".*/missing.pem\" cannot be opened: .*"));
  kill(daemon.pid(), SIGTERM);
  EXPECT_THAT(next(), ::testing::MatchesRegex("STOPPING=1\nEXTEND_TIMEOUT_USEC=[0-9]+"));
}

TEST_F(DaemonTest, TakesSocketsOfTheServiceManager) {
  const UniqueFd socket = BindTcp(0);
  ASSERT_EQ(listen(socket.get(), 8), 0);
  WriteConfig("k.pem", "", "\"systemd:web\"");
  Daemon daemon(Config(), [&socket] { PassSocket(socket, "web"); });
  EXPECT_TRUE(daemon.Says("ready generation=1")) << daemon.log();
  EXPECT_TRUE(daemon.Says("listen=systemd:web")) << daemon.log();
}

TEST_F(DaemonTest, RefusesAnInheritedSocketThatDoesNotListen) {
  const UniqueFd socket = BindTcp(0);
  Daemon daemon(Config(), [&socket] { PassSocket(socket, "web"); });
  EXPECT_EQ(daemon.ExitStatus(), 1);
  EXPECT_THAT(daemon.log(), HasSubstr("is not a listening TCP socket"));
}

TEST_F(DaemonTest, KeepsOnlyTheCapabilitiesThatItNeeds) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Daemon daemon(Config());
  ASSERT_TRUE(daemon.Says("ready generation=1")) << daemon.log();
  std::ifstream status("/proc/" + std::to_string(daemon.pid()) + "/status");
  const std::string text((std::istreambuf_iterator<char>(status)), {});
  const auto set = [&text](const std::string& name) {
    return std::stoull(text.substr(text.find(name + ":\t") + name.size() + 2, 16), nullptr, 16);
  };
  for (const int forbidden : {/*SYS_MODULE*/ 16, /*SYS_RAWIO*/ 17, /*SYS_PTRACE*/ 19,
                              /*SYS_BOOT*/ 22, /*MKNOD*/ 27, /*BPF*/ 39}) {
    EXPECT_EQ(set("CapEff") >> forbidden & 1, 0u) << forbidden;
    EXPECT_EQ(set("CapBnd") >> forbidden & 1, 0u) << forbidden;
  }
}

TEST(SupervisorLinkageTest, HasNoTlsLibrary) {
  FILE* readelf = popen("readelf -d " TLSBROKERD, "r");
  ASSERT_NE(readelf, nullptr);
  std::string needed;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), readelf)) > 0;) needed.append(buffer, n);
  if (pclose(readelf) != 0) GTEST_SKIP() << "readelf is missing (Debian: binutils)";
  EXPECT_THAT(needed, HasSubstr("NEEDED"));
  EXPECT_THAT(needed, Not(HasSubstr("libssl")));
  EXPECT_THAT(needed, Not(HasSubstr("libcrypto")));
}

}  // namespace
}  // namespace tlsbroker::supervisor
