// SPDX-License-Identifier: Apache-2.0
#include "tests/isolation/worker_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

namespace tlsbroker {
namespace {

namespace fs = std::filesystem;

constexpr int kHandedOver = 3;  // attacks::kConnectionFd

}  // namespace

bool InstallKeys(int socket) {
  if (setsockopt(socket, IPPROTO_TCP, TCP_ULP, "tls", 4) != 0) return false;
  tls12_crypto_info_aes_gcm_128 keys{};
  keys.info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128};
  return setsockopt(socket, SOL_TLS, TLS_TX, &keys, sizeof(keys)) == 0 &&
         setsockopt(socket, SOL_TLS, TLS_RX, &keys, sizeof(keys)) == 0;
}

std::pair<UniqueFd, UniqueFd> TcpPair() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener.get(), name, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), name, &size) != 0 || connect(client.get(), name, size) != 0) {
    return {};
  }
  const UniqueFd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  // A number above 10, so that it does not collide with the number that the descriptor gets in the
  // attacker.
  return {UniqueFd(fcntl(accepted.get(), F_DUPFD_CLOEXEC, 10)), std::move(client)};
}

void WorkerTest::SetUp() {
  if (root() && geteuid() != 0) GTEST_SKIP() << "needs root";
  std::string name = "/tmp/tlsbroker-isolation.XXXXXX";
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  directory_ = name;
  policy_ = {
      .change_user = root(),
      .uid = kUnprivilegedUser,
      .gid = kUnprivilegedUser,
      .profile = strict() ? sandbox::WorkerProfile::kStrict : sandbox::WorkerProfile::kDefault,
      .program = Path("attacker")};
  // Copies the program to a place that the worker's user can reach, wherever the build directory
  // is.
  fs::copy_file(fs::read_symlink("/proc/self/exe").replace_filename("attacker"), policy_.program);
  fs::permissions(directory_, fs::perms(0755));
  std::tie(connection_, peer_) = TcpPair();
  ASSERT_TRUE(connection_.valid());
  ktls_ = InstallKeys(connection_.get());
}

void WorkerTest::TearDown() {
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

std::string WorkerTest::MakeFile(const std::string& name, mode_t mode) {
  const std::string path = Path(name);
  std::ofstream(path) << "content";
  (void)!chown(path.c_str(), geteuid() == 0 ? kUnprivilegedUser : geteuid(),
               static_cast<gid_t>(-1));
  chmod(path.c_str(), mode);
  return path;
}

void WorkerTest::Execute(const Attack& attack) {
  dup2(connection_.get(), kHandedOver);
  std::vector<char*> argv = {policy_.program.data()};
  for (const std::string& word : attack) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  std::perror("execv");
  _exit(kNotStarted);
}

pid_t WorkerTest::StartConfined(const Attack& attack) {
  return StartChild([&]() -> int {
    if (!root() && !DropRoot()) return kNotStarted;
    const absl::Status status = sandbox::ConfineWorker(policy_);
    if (status.ok()) Execute(attack);
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return kNotStarted;
  });
}

Outcome WorkerTest::Unconfined(const Attack& attack) {
  return RunChild([&]() -> int { Execute(attack); });
}

void WorkerTest::ExpectDenied(const Outcome& denial, const Attack& attack) {
  EXPECT_EQ(Confined(attack), denial) << attack[0];
  const Outcome outcome = Unconfined(attack);
  if (outcome == kSucceeded) return;
  if (getenv("TLSBROKER_EXPECT") != nullptr) {
    ADD_FAILURE() << attack[0]
                  << " does not work even unconfined: " << testing::PrintToString(outcome);
  } else {
    GTEST_SKIP() << attack[0] << " is denied; this machine also stops it unconfined: "
                 << testing::PrintToString(outcome);
  }
}

}  // namespace tlsbroker
