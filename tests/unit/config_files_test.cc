// SPDX-License-Identifier: Apache-2.0
// One configuration in several files, and variables of the environment in it: what belongs
// together, and that each fault is reported in the file where it is.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "broker/supervisor/config.h"

namespace tlsbroker::supervisor {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kCertificate[] = "[certificate.c]\nchain = \"/c.pem\"\nkey = \"/k.pem\"\n";
constexpr char kService[] = "[service.web]\nlisten = [\"127.0.0.1:443\"]\ncertificates = [\"c\"]\n";

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    char name[] = "/tmp/tlsbroker-files-XXXXXX";
    directory_ = mkdtemp(name);
    mkdir(Path("conf.d").c_str(), 0755);
    Write("broker.toml", kCertificate);
    Write("conf.d/web.toml", kService);
  }
  ~FilesTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(Path(name)) << text;
  }

  Config Read() {
    Diagnostics diagnostics(Path("broker.toml"));
    Config config = ReadConfig(diagnostics);
    errors_.clear();
    for (const std::string& line : diagnostics.errors()) {
      EXPECT_THAT(line, StartsWith(directory_ + "/"));
      errors_.push_back(line.substr(directory_.size() + 1));
    }
    return config;
  }

  std::vector<std::string> Errors() {
    Read();
    return errors_;
  }

  std::string directory_;
  std::vector<std::string> errors_;
};

TEST_F(FilesTest, MakeOneConfiguration) {
  Write("conf.d/10.toml", "[broker]\ndrain_timeout = \"5s\"\n[service.web.worker]\nuser = \"u\"\n");
  Write("conf.d/9.toml", "[broker]\nuser = \"b\"\n[service.web.worker.limits]\nfiles = 9\n");
  Write("conf.d/A.toml", "[service.web.worker.environment]\nA = \"a\"\n");
  Write("conf.d/.hidden.toml", "nonsense");
  Write("conf.d/web.toml.dpkg-new", "nonsense");
  Write("conf.d/web.toml", std::string(kService) + "worker.command = [\"/w\"]\n");
  // A dotted key is of a table as well.
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("conf.d/web.toml:4:1: [service.web.worker] is given "
                                               "twice, also at " +
                                               Path("conf.d/10.toml") + ":3:1; leave out one")));
  Write("conf.d/10.toml", "[broker]\ndrain_timeout = \"5s\"\n");
  const Config config = Read();
  EXPECT_THAT(errors_, IsEmpty());
  EXPECT_THAT(config.files,
              ElementsAre(Path("broker.toml"), Path("conf.d/10.toml"), Path("conf.d/9.toml"),
                          Path("conf.d/A.toml"), Path("conf.d/web.toml")));
  EXPECT_EQ(config.broker.user.value, "b");
  EXPECT_EQ(config.broker.drain_timeout, std::chrono::seconds(5));
  ASSERT_EQ(config.services.size(), 1u);
  EXPECT_EQ(config.services[0].worker->limits.files, 9u);
  EXPECT_THAT(config.services[0].worker->environment, ElementsAre("A=a"));
  EXPECT_EQ(*config.services[0].listen[0].position.file, Path("conf.d/web.toml"));
  EXPECT_EQ(config.certificates[0].key.position.file, nullptr);
}

TEST_F(FilesTest, WhatIsGivenTwiceIsNamedWithBothPlaces) {
  Write("broker.toml", std::string(kCertificate) + "[broker]\nuser = \"a\"\n");
  Write("conf.d/b.toml", std::string(kCertificate) + "[broker]\nuser = \"b\"\n");
  Write("conf.d/c.toml", std::string("\n") + kService + "[service]\nlisten = 1\n");
  Write("conf.d/d.toml", "service = 1\n");
  EXPECT_THAT(Errors(),
              ElementsAre("conf.d/b.toml:1:1: [certificate.c] is given twice, also at " +
                              Path("broker.toml") + ":1:1; leave out one of them",
                          "conf.d/b.toml:5:1: 'broker.user' is given twice, also at " +
                              Path("broker.toml") + ":5:1; leave out one of them",
                          StartsWith("conf.d/d.toml:1:1: 'service' is given twice, also at " +
                                     Path("conf.d/c.toml")),
                          StartsWith("conf.d/web.toml:1:1: [service.web] is given twice, also at " +
                                     Path("conf.d/c.toml") + ":2:1;")));
}

TEST_F(FilesTest, FaultsAreInTheirFile) {
  Write("conf.d/a.toml", "[service.a]\nlisten = [\"127.0.0.1:443\"]\ncertificates = [\"d\"]\n");
  EXPECT_THAT(
      Errors(),
      ElementsAre(StartsWith("conf.d/a.toml:3:17: there is no certificate \"d\""),
                  StartsWith("conf.d/web.toml:2:11: \"127.0.0.1:443\" is listened on twice, "
                             "also at " +
                             Path("conf.d/a.toml") + ":2:11;")));
  Write("conf.d/a.toml", "[service.a\n");
  Write("conf.d/b.toml", "[service.b]\nx\n");
  EXPECT_THAT(Errors(),
              ElementsAre(StartsWith("conf.d/a.toml:1:"), StartsWith("conf.d/b.toml:2:")));
}

TEST_F(FilesTest, NoDirectoryAndAnEmptyOne) {
  Write("broker.toml", std::string(kCertificate) + kService);
  std::filesystem::remove(Path("conf.d/web.toml"));
  EXPECT_THAT(Errors(), IsEmpty());
  std::filesystem::remove(Path("conf.d"));
  EXPECT_THAT(Errors(), IsEmpty());
}

TEST_F(FilesTest, ThatAreNone) {
  mkdir(Path("conf.d/directory.toml").c_str(), 0755);
  ASSERT_EQ(symlink("nowhere", Path("conf.d/link.toml").c_str()), 0);
  ASSERT_EQ(mkfifo(Path("conf.d/pipe.toml").c_str(), 0644), 0);
  std::filesystem::remove(Path("broker.toml"));
  EXPECT_THAT(
      Errors(),
      ElementsAre(
          StartsWith("broker.toml:1:1: cannot be read: No such file"),
          "conf.d/directory.toml:1:1: is a directory; a TOML file is needed, or a name that "
          "does not end in .toml",
          "conf.d/link.toml:1:1: is a link to something that does not exist; remove it, or "
          "let it name a file",
          StartsWith("conf.d/pipe.toml:1:1: is no regular file;")));
}

TEST_F(FilesTest, DirectoryThatIsNone) {
  std::filesystem::remove_all(Path("conf.d"));
  Write("conf.d", "");
  EXPECT_THAT(Errors(), ElementsAre("conf.d:1:1: cannot be read: Not a directory; a directory that "
                                    "the broker may read is needed, or none"));
  std::filesystem::remove(Path("conf.d"));
  ASSERT_EQ(symlink("nowhere", Path("conf.d").c_str()), 0);
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("conf.d:1:1: cannot be read: No such file")));
}

TEST_F(FilesTest, MainFileThatIsADirectory) {
  std::filesystem::remove(Path("broker.toml"));
  mkdir(Path("broker.toml").c_str(), 0755);
  EXPECT_THAT(Errors(), ElementsAre("broker.toml:1:1: cannot be read: Is a directory; a readable "
                                    "TOML file is needed"));
}

// ---- Variables ----

std::string Expanded(const std::string& text) {
  const std::map<std::string, std::string> values = {
      {"A", "a"}, {"EMPTY", ""}, {"_B2", "${A}\" = 1\n[broker]"}};
  const auto value = ExpandVariables(text, [&values](const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  });
  if (const auto* complaint = std::get_if<Complaint>(&value))
    return "! " + complaint->wrong + "; " + complaint->right;
  return std::get<std::string>(value);
}

TEST(VariablesTest, AreReplaced) {
  EXPECT_EQ(Expanded("${A}"), "a");
  EXPECT_EQ(Expanded("x${A}y${A}${A}z"), "xayaaz");
  EXPECT_EQ(Expanded("<${EMPTY}>"), "<>");
  EXPECT_EQ(Expanded("${_B2}"), "${A}\" = 1\n[broker]")
      << "what a variable says is not looked into";
}

TEST(VariablesTest, OtherDollarsStay) {
  for (const char* text : {"", "$", "$$", "a$", "$A", "{A}", "$ {A}", "}", "kill $$; echo $1$"})
    EXPECT_EQ(Expanded(text), text);
}

TEST(VariablesTest, TwoDollarsInFrontOfABraceAreOneThatStays) {
  EXPECT_EQ(Expanded("$${A}"), "${A}");
  EXPECT_EQ(Expanded("$${"), "${");
  EXPECT_EQ(Expanded("$$${A}"), "$a");
  EXPECT_EQ(Expanded("$$$${A}"), "$${A}");
  EXPECT_EQ(Expanded("$${X:-${A}}"), "${X:-a}");
}

TEST(VariablesTest, HaveDefaults) {
  EXPECT_EQ(Expanded("${NO:-b c}"), "b c");
  EXPECT_EQ(Expanded("${NO:-}"), "");
  EXPECT_EQ(Expanded("${EMPTY:-b}"), "b");
  EXPECT_EQ(Expanded("${A:-b}"), "a");
  EXPECT_EQ(Expanded("${NO:-http://x:-y$}"), "http://x:-y$");
}

TEST(VariablesTest, ThatAreMissing) {
  EXPECT_EQ(Expanded("${NO}"),
            "! the variable NO is not in the environment of the broker; set it, write "
            "\"${NO:-default}\", or \"$${NO}\" for a \"${NO}\" that stays");
}

TEST(VariablesTest, ThatAreMalformed) {
  EXPECT_EQ(Expanded("a${A"),
            "! \"${\" without a \"}\"; write \"${NAME}\", or \"$${\" for a \"${\" that stays");
  for (const char* inside : {"", "1", "A B", "A-b", "A%.*", "#A", "A:?x", "A:-${A", "\xc3\xa4"}) {
    EXPECT_THAT(Expanded("${" + std::string(inside) + "}"),
                AllOf(StartsWith("! \"${" + std::string(inside) + "}\" names no variable"),
                      HasSubstr("\"$${\" for a \"${\" that stays")));
  }
}

TEST_F(FilesTest, VariablesInAllStrings) {
  setenv("TLSBROKER_TEST_A", "www", 1);
  setenv("TLSBROKER_TEST_TOML", "\"]\nuser = \"root", 1);
  Write("conf.d/web.toml",
        std::string(kService) +
            "alpn = [\"x\", \"${TLSBROKER_TEST_A}\"]\n"
            "worker = { command = [\"/bin/sh\", \"-c\", '''$${X} $1 ${TLSBROKER_TEST_A}''', "
            "\"${TLSBROKER_TEST_TOML}\"], environment = { A = \"${TLSBROKER_TEST_A}\" } }\n");
  const Config config = Read();
  EXPECT_THAT(errors_, IsEmpty());
  const ServiceConfig& service = config.services.at(0);
  EXPECT_THAT(service.terms.alpn, ElementsAre("x", "www"));
  EXPECT_THAT(service.worker->command.value,
              ElementsAre("/bin/sh", "-c", "${X} $1 www", "\"]\nuser = \"root"));
  EXPECT_THAT(service.worker->environment, ElementsAre("A=www"));
  EXPECT_FALSE(service.worker->user);
}

TEST_F(FilesTest, VariablesThatAreMissing) {
  unsetenv("TLSBROKER_TEST_NO");
  Write("broker.toml", std::string(kCertificate) + "[broker]\nuser = \"${TLSBROKER_TEST_NO}\"\n");
  Write("conf.d/web.toml", std::string(kService) + "alpn = [\"x\",\n  \"${TLSBROKER_TEST_NO}\"]\n");
  EXPECT_THAT(Errors(),
              ElementsAre(StartsWith("broker.toml:5:8: the variable TLSBROKER_TEST_NO is "
                                     "not in the environment of the broker; "),
                          StartsWith("conf.d/web.toml:5:3: the variable TLSBROKER_TEST_NO")));
}

TEST_F(FilesTest, KeysHaveNoVariables) {
  Write("conf.d/web.toml", std::string(kService) + "\"${HOME}\" = 1\n");
  EXPECT_THAT(Errors(), ElementsAre(StartsWith("conf.d/web.toml:4:1: unknown key '${HOME}'")));
}

}  // namespace
}  // namespace tlsbroker::supervisor
