// SPDX-License-Identifier: Apache-2.0
// profile = "strict": what a worker with the default profile may do and a strict one may not. The
// other files test, for both, what neither may do.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <fstream>

#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerStrict : public WorkerTest {
 protected:
  void ExpectOnlyStrictlyDenied(const Attack& attack) {
    EXPECT_EQ(Confined(attack), Refused(EPERM)) << attack[0];
    policy_.profile = sandbox::WorkerProfile::kDefault;
    EXPECT_EQ(Confined(attack), kSucceeded) << attack[0];
    policy_.profile = sandbox::WorkerProfile::kStrict;
  }
};

TEST_P(WorkerStrict, NewSocket) {
  ExpectOnlyStrictlyDenied({"socket", std::to_string(AF_UNIX), "1"});
}

TEST_P(WorkerStrict, Socketpair) {
  ExpectOnlyStrictlyDenied({"socketpair", std::to_string(AF_UNIX)});
}

TEST_P(WorkerStrict, Fork) { ExpectOnlyStrictlyDenied({"clone", "0"}); }

TEST_P(WorkerStrict, OtherProgram) {
  EXPECT_EQ(Confined({"execute", "/bin/true"}), Refused(EACCES));
  policy_.profile = sandbox::WorkerProfile::kDefault;
  EXPECT_EQ(Confined({"execute", "/bin/true"}), kSucceeded);
}

TEST_P(WorkerStrict, ScriptsInterpreterAlone) {
  const std::string script = MakeFile("script", 0755);
  std::ofstream(script) << "#!/bin/sh\nexit 0\n";
  policy_.program = script;
  EXPECT_EQ(Confined({}), kSucceeded);
  std::ofstream(script) << "#!/bin/sh\nexec /bin/true\n";
  EXPECT_NE(Confined({}), kSucceeded);
}

TEST_P(WorkerStrict, ScriptByEnvIsRefusedWithAReason) {
  const std::string script = MakeFile("script", 0755);
  std::ofstream(script) << "#!/usr/bin/env sh\nexit 0\n";
  policy_.program = script;
  testing::internal::CaptureStderr();
  EXPECT_NE(Confined({}), kSucceeded);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("name the interpreter"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(As, WorkerStrict, testing::Values(SupervisorIs::kRootAndStrict),
                         SupervisorName);

}  // namespace
}  // namespace tlsbroker
