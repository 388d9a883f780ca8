// SPDX-License-Identifier: Apache-2.0
// One configuration in several files: what belongs together, and that each fault is reported in the
// file where it is.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "broker/supervisor/config.h"

namespace tlsbroker::supervisor {
namespace {

using ::testing::ElementsAre;
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

}  // namespace
}  // namespace tlsbroker::supervisor
