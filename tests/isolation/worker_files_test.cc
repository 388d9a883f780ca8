// SPDX-License-Identifier: Apache-2.0
// What a confined worker can reach in the file system: /usr, /lib*, /etc, its program and the paths
// in its lists.

#include <sys/stat.h>

#include <filesystem>

#include "broker/sandbox/landlock.h"
#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerFiles : public WorkerTest {
 protected:
  void SetUp() override {
    WorkerTest::SetUp();
    if (IsSkipped()) return;
    if (sandbox::Landlock::Version() > 0) return;
    ASSERT_EQ(getenv("TLSBROKER_EXPECT"), nullptr) << "the guests' kernels have Landlock";
    GTEST_SKIP() << "this kernel has no Landlock";
  }
};

TEST_P(WorkerFiles, ReadsWhatProgramsNeed) {
  EXPECT_EQ(Confined({"read", "/etc/passwd"}), kSucceeded);
  EXPECT_EQ(Confined({"list", "/usr/lib"}), kSucceeded);
  EXPECT_EQ(Confined({"read", "/dev/urandom"}), kSucceeded);
  EXPECT_EQ(Confined({"write", "/dev/null"}), kSucceeded);
  EXPECT_EQ(Confined({"execute", "/bin/true"}), kSucceeded);
}

TEST_P(WorkerFiles, ReadsNothingElse) {
  ExpectDenied(Refused(EACCES), {"read", MakeFile("file", 0644)});
  ExpectDenied(Refused(EACCES), {"list", Path("")});
  ExpectDenied(Refused(EACCES), {"list", "/"});
}

TEST_P(WorkerFiles, ReadsNoSecretsOfTheMachine) {
  ExpectDenied(Refused(EACCES), {"read", "/etc/shadow"});
}

TEST_P(WorkerFiles, SeesNoProcess) {
  const std::string process = "/proc/" + std::to_string(getpid());
  for (const char* file : {"/mem", "/environ", "/maps", "/cmdline", "/status"}) {
    ExpectDenied(Refused(EACCES), {"read", process + file});
  }
  ExpectDenied(Refused(EACCES), {"list", process + "/fd"});
  ExpectDenied(Refused(EACCES), {"list", "/proc"});
}

TEST_P(WorkerFiles, WritesNothing) {
  const std::string file = MakeFile("file", 0666);
  ASSERT_EQ(chmod(Path("").c_str(), 0777), 0);
  ExpectDenied(Refused(EACCES), {"write", file});
  ExpectDenied(Refused(EACCES), {"create", Path("new")});
  ExpectDenied(Refused(EACCES), {"mkdir", Path("directory")});
  ExpectDenied(Refused(EACCES), {"remove", file});
}

TEST_P(WorkerFiles, TruncatesNothing) {
  const std::string file = MakeFile("file", 0666);
  ExpectDenied(Refused(EACCES), {"truncate", file});
  ExpectDenied(Refused(EACCES), {"truncate-by-open", file, "0"});
  ExpectDenied(Refused(EACCES), {"truncate-by-open", file, "3"});
  ExpectDenied(Refused(sandbox::Landlock::Version() < 3 ? ENOSYS : EACCES),
               {"truncate-by-openat2", file});
}

TEST_P(WorkerFiles, ExecutesNothingElse) {
  const std::string other = Path("other");
  std::filesystem::copy_file(attacker(), other);
  EXPECT_EQ(Confined({"execute", other, "clone", "0"}), Refused(EACCES));
  policy_.read_only = {other};
  EXPECT_EQ(Confined({"execute", other, "clone", "0"}), Refused(EACCES));
  EXPECT_EQ(Unconfined({"execute", other, "clone", "0"}), kSucceeded);
}

TEST_P(WorkerFiles, ReadOnlyList) {
  const std::string file = MakeFile("file", 0666);
  policy_.read_only = {Path("")};
  EXPECT_EQ(Confined({"read", file}), kSucceeded);
  EXPECT_EQ(Confined({"list", Path("")}), kSucceeded);
  ExpectDenied(Refused(EACCES), {"write", file});
}

TEST_P(WorkerFiles, ReadWriteList) {
  std::filesystem::create_directory(Path("data"));
  ASSERT_EQ(chmod(Path("data").c_str(), 0777), 0);
  policy_.read_write = {Path("data")};
  EXPECT_EQ(Confined({"create", Path("data/new")}), kSucceeded);
  EXPECT_EQ(Confined({"write", Path("data/new")}), kSucceeded);
  EXPECT_EQ(Confined({"remove", Path("data/new")}), kSucceeded);
  ExpectDenied(Refused(EACCES), {"read", MakeFile("outside", 0644)});
}

TEST_P(WorkerFiles, PrivateTmp) {
  policy_.private_tmp = true;
  if (!root()) {  // and so without a mount namespace
    EXPECT_EQ(Confined({"create", "/tmp/tlsbroker-isolation-user"}), Refused(EACCES));
    return;
  }
  const std::string listed = MakeFile("listed", 0666);
  const std::string other = MakeFile("other", 0666);
  policy_.read_only = {listed};
  for (const std::string directory : {"/tmp/", "/var/tmp/", "/dev/shm/"}) {
    const std::string created = directory + "tlsbroker-isolation-" + std::to_string(getpid());
    EXPECT_EQ(Confined({"create", created}), kSucceeded);
    EXPECT_FALSE(std::filesystem::exists(created));
    EXPECT_EQ(Confined({"list", directory}), kSucceeded);
  }
  EXPECT_EQ(Confined({"read", listed}), kSucceeded);
  EXPECT_EQ(Confined({"write", listed}), Refused(EROFS));
  EXPECT_EQ(Confined({"remove", listed}), Refused(EACCES));
  EXPECT_EQ(Confined({"write", policy_.program}), Refused(EACCES));
  EXPECT_EQ(Confined({"read", other}), Refused(ENOENT));
  EXPECT_EQ(Confined({"execute", listed}), Refused(EACCES));
  policy_.read_only = {Path("")};
  EXPECT_EQ(Confined({"read", other}), kSucceeded);
  EXPECT_EQ(Confined({"write", other}), Refused(EROFS));
  policy_.read_write = {other};
  EXPECT_EQ(Confined({"write", other}), kSucceeded);
  std::filesystem::create_directory(Path("closed"));
  const std::string behind = MakeFile("closed/file", 0666);
  policy_.read_only = {behind};
  EXPECT_EQ(Confined({"read", behind}), kSucceeded);
  ASSERT_EQ(chmod(Path("closed").c_str(), 0700), 0);
  EXPECT_EQ(Confined({"read", behind}), Refused(EACCES));
  policy_.read_only = {Path("")};
  EXPECT_EQ(Confined({"write", listed}), Refused(EROFS));
  policy_.read_write = {"/dev/shm/"};
  const std::string shared = "/dev/shm/tlsbroker-isolation-" + std::to_string(getpid());
  EXPECT_EQ(Confined({"create", shared}), kSucceeded);
  EXPECT_TRUE(std::filesystem::remove(shared));
}

TEST_P(WorkerFiles, MissingPathIsNamed) {
  policy_.read_only = {Path("missing")};
  const auto says_which = [&]() -> int {
    if (!root() && !DropRoot()) return kNotStarted;
    const absl::Status status = sandbox::ConfineWorker(policy_);
    return status.message().find(Path("missing")) != std::string::npos ? 0 : kNotStarted;
  };
  EXPECT_EQ(RunChild(says_which), kSucceeded);
}

INSTANTIATE_TEST_SUITE_P(As, WorkerFiles, testing::Values(SupervisorIs::kRoot, SupervisorIs::kUser),
                         SupervisorName);

}  // namespace
}  // namespace tlsbroker
