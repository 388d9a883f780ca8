// SPDX-License-Identifier: Apache-2.0
// What a configuration names has to exist: files, users, addresses. Each thing that does not is
// reported once, with its place.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "broker/supervisor/runtime_dir.h"
#include "broker/supervisor/setup.h"
#include "protocol/service_messages.h"
#include "tests/unit/bound.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class SetupTest : public NoFdLeaks {
 protected:
  SetupTest() {
    char name[] = "/tmp/tlsbroker-setup-XXXXXX";
    directory_ = mkdtemp(name);
    Write("c.pem", "chain");
    Write("k.pem", "key");
    chmod((directory_ + "/k.pem").c_str(), 0600);
    port_ = Bound().port;
    values_ = {{"chain", "\"" + directory_ + "/c.pem\""},
               {"key", "\"" + directory_ + "/k.pem\""},
               {"listen", "[\"127.0.0.1:" + std::to_string(port_) + "\"]"},
               {"command", "[\"/bin/true\"]"},
               {"user", "\"daemon\""},
               {"more", ""},
               {"run", "run"},
               {"broker_user", "\"nobody\""}};
  }
  ~SetupTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
  }

  std::string file() const { return directory_ + "/b.toml"; }

  void WriteConfig() {
    std::ofstream(file()) << "[certificate.c]\n"
                          << "chain = " << values_["chain"] << "\n"
                          << "key = " << values_["key"] << "\n"
                          << "[service.s]\n"
                          << "listen = " << values_["listen"] << "\n"
                          << "certificates = [\"c\"]\n"
                          << "[service.s.worker]\n"
                          << "command = " << values_["command"] << "\n"
                          << "user = " << values_["user"] << "\n"
                          << values_["more"] << "\n"
                          << "[broker]\n"
                          << "user = " << values_["broker_user"] << "\n"
                          << "runtime_dir = \"" << directory_ << "/" << values_["run"] << "\"\n";
  }

  // Removes the file's name from each line.
  std::vector<std::string> Strip(std::vector<std::string> lines) {
    for (std::string& line : lines) line = line.substr(file().size() + 1);
    return lines;
  }

  std::vector<std::string> Errors(const InheritedSockets& inherited = {}) {
    WriteConfig();
    Diagnostics diagnostics(file());
    OpenSetup(diagnostics, inherited, nullptr);
    warnings_ = Strip(diagnostics.warnings());
    return Strip(diagnostics.errors());
  }

  // The setup of the configuration that was written last; its errors are in errors_.
  supervisor::Setup Open(const supervisor::Setup* previous) {
    Diagnostics diagnostics(file());
    supervisor::Setup setup = OpenSetup(diagnostics, {}, previous);
    errors_ = Strip(diagnostics.errors());
    return setup;
  }

  // The errors that --check finds.
  std::vector<std::string> CheckErrors() {
    EXPECT_THAT(Errors(), IsEmpty()) << "a broker that serves does not look";
    Diagnostics diagnostics(file());
    CheckSetup(diagnostics);
    return Strip(diagnostics.errors());
  }

  std::string directory_;
  int port_ = 0;
  std::map<std::string, std::string> values_;
  std::vector<std::string> warnings_;
  std::vector<std::string> errors_;
};

TEST_F(SetupTest, GoodOne) {
  EXPECT_THAT(Errors(), IsEmpty());
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(SetupTest, MissingFiles) {
  values_["chain"] = "\"/nonexistent/c.pem\"";
  values_["key"] = "\"/nonexistent/k.pem\"";
  EXPECT_THAT(Errors(), ElementsAre("2:9: \"/nonexistent/c.pem\" cannot be opened: No such file or "
                                    "directory; a readable PEM file with the server's certificate "
                                    "first is needed",
                                    "3:7: \"/nonexistent/k.pem\" cannot be opened: No such file or "
                                    "directory; a readable file with the private key is needed"));
}

TEST_F(SetupTest, DirectoriesFifosAndEmptyFiles) {
  ASSERT_EQ(mkfifo((directory_ + "/fifo").c_str(), 0600), 0);
  values_["chain"] = "\"/etc\"";
  values_["key"] = "\"" + directory_ + "/fifo\"";
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("2:9: \"/etc\" is a directory; "),
                                    HasSubstr("/fifo\" is not a regular file; ")));
  values_["chain"] = "\"/dev/null\"";
  Write("empty", "");
  values_["key"] = "\"" + directory_ + "/empty\"";
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("2:9: \"/dev/null\" is not a regular file; "),
                                    HasSubstr("/empty\" is empty; ")));
}

TEST_F(SetupTest, ChainThatIsTooLong) {
  Write("c.pem", std::string(1024 * 1024 + 1, 'x'));
  EXPECT_THAT(Errors(), ElementsAre("2:9: a file of 1048577 bytes; at most 1048576 are possible"));
}

TEST_F(SetupTest, KeyThatEverybodyCanReadIsAWarning) {
  chmod((directory_ + "/k.pem").c_str(), 0644);
  EXPECT_THAT(Errors(), IsEmpty());
  EXPECT_THAT(warnings_, ElementsAre("3:7: every user can read this private key; take the right "
                                     "away with chmod o-r"));
}

TEST_F(SetupTest, KeyThatCannotBeRead) {
  if (geteuid() == 0) GTEST_SKIP() << "root can read everything";
  chmod((directory_ + "/k.pem").c_str(), 0);
  EXPECT_THAT(Errors(), ElementsAre(HasSubstr("cannot be opened: Permission denied")));
}

TEST_F(SetupTest, CredentialsComeFromTheirDirectory) {
  values_["key"] = "\"cred:k.pem\"";
  unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_THAT(Errors(), ElementsAre("3:7: \"cred:k.pem\" without credentials; start the broker "
                                    "with LoadCredential=, which sets CREDENTIALS_DIRECTORY"));
  setenv("CREDENTIALS_DIRECTORY", directory_.c_str(), 1);
  EXPECT_THAT(Errors(), IsEmpty());
  unsetenv("CREDENTIALS_DIRECTORY");
}

TEST_F(SetupTest, ProgramThatIsMissingOrNotExecutable) {
  values_["command"] = "[\"/nonexistent/worker\"]";
  EXPECT_THAT(CheckErrors(),
              ElementsAre("8:11: \"/nonexistent/worker\" cannot be found: No such file "
                          "or directory; a program is needed"));
  values_["command"] = "[\"/etc/passwd\"]";
  EXPECT_THAT(CheckErrors(), ElementsAre(StartsWith("8:11: \"/etc/passwd\" is not executable; ")));
}

TEST_F(SetupTest, ProgramThatItsUserCannotExecute) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string program = directory_ + "/worker";
  Write("worker", "#!/bin/true\n");
  values_["command"] = "[\"" + program + "\"]";
  chmod(directory_.c_str(), 0755);
  chmod(program.c_str(), 0755);
  EXPECT_THAT(CheckErrors(), IsEmpty());
  const std::string wrong = "8:11: \"" + program +
                            "\" cannot be executed by \"daemon\": Permission denied; the program, "
                            "and each directory above it, needs x for that user";
  chmod(program.c_str(), 0700);
  EXPECT_THAT(CheckErrors(), ElementsAre(wrong));
  chmod(program.c_str(), 0755);
  chmod(directory_.c_str(), 0700);
  EXPECT_THAT(CheckErrors(), ElementsAre(wrong));
}

TEST_F(SetupTest, RuntimeDirThatCannotBeUsed) {
  values_["run"] = "not/there";
  EXPECT_THAT(CheckErrors(),
              ElementsAre("13:15: \"" + directory_ +
                          "/not/there\" cannot be created: No such file or directory; a "
                          "directory that the broker may create or write to is needed"));
  values_["run"] = "b.toml";
  EXPECT_THAT(CheckErrors(),
              ElementsAre(HasSubstr("/b.toml\" cannot be written to: Not a directory")));
  values_["run"] = "run/";
  EXPECT_THAT(CheckErrors(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/run"));
}

TEST_F(SetupTest, PathsOfTheWorkerExist) {
  values_["more"] = "read_only = [\"/etc\", \"/nonexistent\"]";
  EXPECT_THAT(CheckErrors(), ElementsAre(StartsWith("10:22: \"/nonexistent\" cannot be found: ")));
}

TEST_F(SetupTest, ServiceWithoutWorkers) {
  std::ofstream(file()) << "[certificate.c]\nchain = " << values_["chain"]
                        << "\nkey = " << values_["key"]
                        << "\n[service.a]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"c\"]\n"
                        << "worker.daemon = [\"/bin/true\"]\nworker.user = \"daemon\"\n"
                        << "[service.b]\nlisten = [\"127.0.0.1:2\"]\ncertificates = [\"c\"]\n"
                        << "[broker]\nuser = \"nobody\"\nruntime_dir = \"" << directory_
                        << "/run\"\n";
  Diagnostics diagnostics(file());
  CheckSetup(diagnostics);
  EXPECT_FALSE(diagnostics.failed());
  EXPECT_THAT(Strip(diagnostics.warnings()),
              ElementsAre("9:10: only root may attach workers to this service; add allow_users, "
                          "allow_groups or a section [service.b.worker]"));
}

TEST_F(SetupTest, Users) {
  if (geteuid() != 0) GTEST_SKIP() << "without root the users are not looked up";
  values_["user"] = "\"nosuchuser\"";
  values_["broker_user"] = "\"root\"";
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("9:8: there is no user \"nosuchuser\"; "),
                                    StartsWith("12:8: \"root\" is root; ")));
  values_["user"] = "\"daemon\"";
  values_["broker_user"] = "\"daemon\"";
  const std::string is_broker =
      ":8: \"daemon\" is the user of the broker's own processes; another user is needed for "
      "workers";
  EXPECT_THAT(Errors(), ElementsAre("9" + is_broker));
  values_["broker_user"] = "\"nobody\"";
  values_["listen"] += "\nuser = \"daemon\"";
  EXPECT_THAT(Errors(), ElementsAre("10" + is_broker));
  values_["user"] = "\"games\"";
  values_["listen"] += "\nallow_users = [\"daemon\"]";
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("7:16: \"daemon\" is the user of the broker's own"),
                                    StartsWith("7:16: workers cannot attach")));
}

TEST_F(SetupTest, ListenerInUse) {
  Bound other;
  ASSERT_EQ(listen(other.fd.get(), 1), 0);
  WriteConfig();
  const supervisor::Setup before = Open(nullptr);
  values_["listen"] = "[\"127.0.0.1:" + std::to_string(other.port) + "\"]";
  WriteConfig();
  Open(&before);
  EXPECT_THAT(errors_,
              ElementsAre("5:11: cannot listen on \"127.0.0.1:" + std::to_string(other.port) +
                          "\": Address already in use; stop the program that listens "
                          "there (ss -ltnp), or use another port"));
  const supervisor::Setup at_the_start = Open(nullptr);
  EXPECT_THAT(errors_, IsEmpty());
  ASSERT_EQ(at_the_start.services[0]->missing.size(), 1u);
  EXPECT_EQ(at_the_start.services[0]->missing[0].error, EADDRINUSE);
  EXPECT_THAT(at_the_start.services[0]->listeners, IsEmpty());
  const supervisor::Setup still = Open(&at_the_start);
  EXPECT_THAT(errors_, IsEmpty()) << "a reload does not end the waiting";
  EXPECT_EQ(still.services[0]->missing.size(), 1u);
}

TEST_F(SetupTest, AddressOfAnotherMachine) {
  WriteConfig();
  const supervisor::Setup before = Open(nullptr);
  values_["listen"] = "[\"192.0.2.1:4443\", \"[2001:db8::1]:4443\"]";
  WriteConfig();
  Open(&before);
  EXPECT_THAT(errors_, ElementsAre(HasSubstr("Cannot assign requested address; an address of this "
                                             "machine (ip address) is needed, or freebind = true"),
                                   HasSubstr("Cannot assign requested address")));
  EXPECT_EQ(Open(nullptr).services[0]->missing.size(), 2u);
  EXPECT_THAT(errors_, IsEmpty());
  values_["listen"] += "\nfreebind = true";
  WriteConfig();
  EXPECT_EQ(Open(&before).services[0]->listeners.size(), 2u);
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(SetupTest, SocketsOfTheServiceManager) {
  values_["listen"] = "[\"systemd:web\"]";
  EXPECT_THAT(Errors(), ElementsAre("5:11: no socket \"web\" was passed to the broker; write "
                                    "FileDescriptorName=web in the socket unit"));
  const InheritedSockets sockets = {{"web", std::make_shared<const UniqueFd>()},
                                    {"other", std::make_shared<const UniqueFd>()},
                                    {"web", std::make_shared<const UniqueFd>()}};
  WriteConfig();
  Diagnostics diagnostics(file());
  const supervisor::Setup setup = OpenSetup(diagnostics, sockets, nullptr);
  ASSERT_EQ(setup.services[0]->listeners.size(), 2u);
  EXPECT_EQ(setup.services[0]->listeners[1].socket, sockets[2].second);
}

TEST_F(SetupTest, ReloadKeepsListenersAndQueues) {
  WriteConfig();
  Diagnostics diagnostics(file());
  const supervisor::Setup first = OpenSetup(diagnostics, {}, nullptr);
  ASSERT_THAT(diagnostics.errors(), IsEmpty());
  const int extra = Bound().port;
  values_["listen"] =
      "[\"127.0.0.1:" + std::to_string(extra) + "\", \"127.0.0.1:" + std::to_string(port_) + "\"]";
  WriteConfig();
  const supervisor::Setup second = OpenSetup(diagnostics, {}, &first);
  ASSERT_THAT(diagnostics.errors(), IsEmpty());
  ASSERT_EQ(second.services[0]->listeners.size(), 2u);
  EXPECT_EQ(second.services[0]->listeners[1].socket, first.services[0]->listeners[0].socket);
  EXPECT_EQ(second.services[0]->queue, first.services[0]->queue);
}

// For example a handshaker that has not ended yet has a copy.
TEST_F(SetupTest, PortIsFreeThoughSomebodyHasACopyOfItsListener) {
  WriteConfig();
  Diagnostics diagnostics(file());
  UniqueFd copy;
  {
    const supervisor::Setup first = OpenSetup(diagnostics, {}, nullptr);
    ASSERT_THAT(diagnostics.errors(), IsEmpty());
    copy = UniqueFd(fcntl(first.services[0]->listeners[0].socket->get(), F_DUPFD_CLOEXEC, 0));
  }
  const supervisor::Setup second = OpenSetup(diagnostics, {}, nullptr);
  EXPECT_THAT(diagnostics.errors(), IsEmpty());
}

TEST_F(SetupTest, ReloadReplacesAQueueThatAWorkerShutDown) {
  WriteConfig();
  Diagnostics diagnostics(file());
  const supervisor::Setup first = OpenSetup(diagnostics, {}, nullptr);
  shutdown(first.services[0]->queue->receiving(), SHUT_RD);
  const supervisor::Setup second = OpenSetup(diagnostics, {}, &first);
  EXPECT_NE(second.services[0]->queue, first.services[0]->queue);
  EXPECT_FALSE(second.services[0]->queue->Broken());
}

// A reload decides by this whether a service needs new processes.
TEST_F(SetupTest, FingerprintTellsWhatChanged) {
  const auto open = [this](const supervisor::Setup* previous) {
    WriteConfig();
    Diagnostics diagnostics(file());
    supervisor::Setup setup = OpenSetup(diagnostics, {}, previous);
    EXPECT_THAT(diagnostics.errors(), IsEmpty());
    return setup;
  };
  const supervisor::Setup first = open(nullptr);
  const std::string before = FingerprintOf(*first.services[0]);
  EXPECT_EQ(FingerprintOf(*open(&first).services[0]), before);
  values_["command"] = "[\"/bin/false\"]";
  EXPECT_EQ(FingerprintOf(*open(&first).services[0]), before) << "the worker is another matter";
  Write("c.pem", "another chain");
  const std::string other_chain = FingerprintOf(*open(&first).services[0]);
  EXPECT_NE(other_chain, before);
  Write("k.pem", "yek");  // as long as the content before
  EXPECT_NE(FingerprintOf(*open(&first).services[0]), other_chain);
  Write("c.pem", "chain");
  values_["listen"] = "[\"127.0.0.1:" + std::to_string(Bound().port) + "\"]";
  EXPECT_NE(FingerprintOf(*open(&first).services[0]), before);
}

TEST_F(SetupTest, OneBrokerInARuntimeDirectory) {
  BrokerConfig config;
  config.runtime_dir = {directory_ + "/run", {7, 15}};
  Diagnostics diagnostics("f");
  const UniqueFd first = LockRuntimeDir(config, diagnostics);
  EXPECT_TRUE(first);
  EXPECT_THAT(diagnostics.errors(), IsEmpty());
  EXPECT_FALSE(LockRuntimeDir(config, diagnostics));
  EXPECT_THAT(diagnostics.errors(), ElementsAre("f:7:15: another broker runs in \"" + directory_ +
                                                "/run\"; stop it, or use another 'runtime_dir'"));
}

}  // namespace
}  // namespace tlsbroker::supervisor
