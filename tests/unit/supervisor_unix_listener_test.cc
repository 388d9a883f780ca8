// A client that connects again the moment that the name is there finds the mode that was asked for.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

#include "broker/supervisor/unix_listener.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

class UnixListenerTest : public NoFdLeaks, public ::testing::WithParamInterface<mode_t> {
 protected:
  UnixListenerTest() {
    char name[] = "/tmp/tlsbroker-listener-XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/socket";
  }
  ~UnixListenerTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_, path_;
};

TEST_P(UnixListenerTest, NameNeverHasAnotherMode) {
  std::atomic<bool> done = false;
  std::atomic<int> seen = 0;
  mode_t other = GetParam();
  std::thread client([&] {
    while (!done) {
      struct stat found {};
      if (stat(path_.c_str(), &found) != 0) continue;
      ++seen;
      if ((found.st_mode & 07777) != GetParam()) other = found.st_mode & 07777;
    }
  });
  for (int i = 0; i < 5000 || seen == 0; ++i) {
    const auto listener = UnixListener::Open(path_, SOCK_SEQPACKET, GetParam());
    EXPECT_TRUE(listener.ok()) << listener.status();
  }
  done = true;
  client.join();
  EXPECT_EQ(other, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Modes, UnixListenerTest, ::testing::Values(0600, 0666));

TEST_P(UnixListenerTest, UmaskOfTheProcessIsAsBefore) {
  const mode_t usual = umask(027);
  EXPECT_TRUE(UnixListener::Open(path_, SOCK_STREAM, GetParam()).ok());
  EXPECT_EQ(umask(usual), 027u);
}

}  // namespace
}  // namespace tlsbroker::supervisor
