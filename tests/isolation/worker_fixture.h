// SPDX-License-Identifier: Apache-2.0
// Runs the attacker as a worker would be run: forked, confined, executed, with the descriptor of a
// connection. For tests only.

#ifndef TLSBROKER_TESTS_ISOLATION_WORKER_FIXTURE_H_
#define TLSBROKER_TESTS_ISOLATION_WORKER_FIXTURE_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "broker/sandbox/worker_policy.h"
#include "protocol/unique_fd.h"
#include "tests/isolation/outcome.h"

namespace tlsbroker {

// Installs kernel TLS on a TCP connection over loopback; false where the kernel has none.
bool InstallKeys(int socket);
// The two ends of a TCP connection over loopback.
std::pair<UniqueFd, UniqueFd> TcpPair();

inline std::string SupervisorName(const testing::TestParamInfo<SupervisorIs>& test) {
  if (test.param == SupervisorIs::kRootAndStrict) return "RootAndStrict";
  return test.param == SupervisorIs::kRoot ? "Root" : "User";
}

class WorkerTest : public testing::TestWithParam<SupervisorIs> {
 protected:
  using Attack = std::vector<std::string>;

  void SetUp() override;
  void TearDown() override;

  bool root() const { return GetParam() != SupervisorIs::kUser; }
  // profile = "strict"
  bool strict() const { return GetParam() == SupervisorIs::kRootAndStrict; }
  // Makes a file that belongs to the worker's user.
  std::string MakeFile(const std::string& name, mode_t mode = 0600);
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  const std::string& attacker() const { return policy_.program; }

  pid_t StartConfined(const Attack& attack);
  Outcome Confined(const Attack& attack) { return Wait(StartConfined(attack)); }
  Outcome Unconfined(const Attack& attack);

  // The attack has to meet `denial` when it is confined, and to succeed when it is not. Where it
  // cannot succeed on this machine at all, the test is skipped after the first half; in the guests
  // that is a failure.
  void ExpectDenied(const Outcome& denial, const Attack& attack);

  sandbox::WorkerPolicy policy_;
  UniqueFd connection_, peer_;
  bool ktls_ = false;

 private:
  [[noreturn]] void Execute(const Attack& attack);

  std::string directory_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_ISOLATION_WORKER_FIXTURE_H_
