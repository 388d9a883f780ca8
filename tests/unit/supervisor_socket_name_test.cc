// SPDX-License-Identifier: Apache-2.0
// Names in the runtime directory: they can be found at any time, with the permissions that were
// asked for, from the first moment on and also while they are replaced or changed.

#include <acl/libacl.h>
#include <gtest/gtest.h>
#include <sys/acl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "broker/supervisor/socket_name.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

std::string ListOf(const std::string& path) {
  acl_t list = acl_get_file(path.c_str(), ACL_TYPE_ACCESS);
  if (list == nullptr) return std::strerror(errno);
  char* text = acl_to_any_text(list, nullptr, ',', TEXT_ABBREVIATE | TEXT_NUMERIC_IDS);
  const std::string result = text;
  acl_free(text);
  acl_free(list);
  return result;
}

int ConnectTo(const std::string& path, int type) {
  const UniqueFd client(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  const int result =
      connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return result == 0 ? 0 : errno;
}

class SocketNameTest : public NoFdLeaks {
 protected:
  SocketNameTest() {
    char name[] = "/tmp/tlsbroker-name-XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/socket";
  }
  ~SocketNameTest() override { std::filesystem::remove_all(directory_); }

  size_t Files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory_),
                                             std::filesystem::directory_iterator()));
  }

  std::string directory_, path_;
};

const Access kNobody{};
const Access kSome{.users = {61234, 33, 33}, .groups = {60, 20}};
constexpr char kOnlyOwner[] = "u::rw-,g::---,o::---";
constexpr char kSomeList[] = "u::rw-,u:33:rw-,u:61234:rw-,g::---,g:20:rw-,g:60:rw-,m::rw-,o::---";

TEST_F(SocketNameTest, ExactlyTheAllowed) {
  SocketName name(path_, SOCK_SEQPACKET, kSome);
  ASSERT_TRUE(name.Bind().ok());
  EXPECT_EQ(ListOf(path_), kSomeList);
  name.Change({.users = {7}, .groups = {}});
  EXPECT_EQ(ListOf(path_), "u::rw-,u:7:rw-,g::---,m::rw-,o::---");
  name.Change(kNobody);
  EXPECT_EQ(ListOf(path_), kOnlyOwner);
  name.Change(kSome);
  EXPECT_EQ(ListOf(path_), kSomeList);
}

TEST_F(SocketNameTest, DefaultListOfTheDirectoryAddsNobody) {
  acl_t list = acl_from_text("u::rwx,g::rwx,o::rwx,u:99:rwx,g:98:rwx,m::rwx");
  ASSERT_EQ(acl_set_file(directory_.c_str(), ACL_TYPE_DEFAULT, list), 0) << strerror(errno);
  acl_free(list);
  SocketName nobody(path_, SOCK_STREAM, kNobody);
  ASSERT_TRUE(nobody.Bind().ok());
  EXPECT_EQ(ListOf(path_), kOnlyOwner);
  SocketName some(path_ + "2", SOCK_STREAM, kSome);
  ASSERT_TRUE(some.Bind().ok());
  EXPECT_EQ(ListOf(path_ + "2"), kSomeList);
}

TEST_F(SocketNameTest, NobodyCanWaitInIt) {
  SocketName name(path_, SOCK_SEQPACKET, kSome);
  const auto socket = name.Bind();
  ASSERT_TRUE(socket.ok());
  EXPECT_EQ(ConnectTo(path_, SOCK_SEQPACKET), ECONNREFUSED);
  ASSERT_EQ(listen(socket->get(), 1), 0);
  EXPECT_EQ(ConnectTo(path_, SOCK_SEQPACKET), 0);
}

TEST_F(SocketNameTest, LongestNameThatASocketCanHave) {
  const size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  const std::string fits = path_ + std::string(longest - path_.size(), 'x');
  EXPECT_TRUE(SocketName(fits, SOCK_STREAM, kNobody).Bind().ok());
  const auto socket = SocketName(fits + "x", SOCK_STREAM, kNobody).Bind();
  EXPECT_NE(socket.status().message().find("longer than the 107 bytes"), std::string::npos);
}

TEST_F(SocketNameTest, NothingIsLeftBehind) {
  {
    SocketName name(path_, SOCK_STREAM, kSome);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(name.Bind().ok());
    EXPECT_EQ(Files(), 1U);
  }
  EXPECT_EQ(Files(), 0U);
  ASSERT_TRUE(std::filesystem::create_directory(path_));
  EXPECT_FALSE(SocketName(path_, SOCK_STREAM, kSome).Bind().ok());
  EXPECT_EQ(Files(), 1U);
}

TEST_F(SocketNameTest, TakesTheNameOverAndLeavesItToTheNext) {
  auto first = std::make_unique<SocketName>(path_, SOCK_STREAM, kNobody);
  ASSERT_TRUE(first->Bind().ok());
  SocketName second(path_, SOCK_STREAM, kSome);
  ASSERT_TRUE(second.Bind().ok());
  first->Change({.users = {5}, .groups = {}});
  first.reset();
  EXPECT_EQ(ListOf(path_), kSomeList) << "it is not the first one's any more";
}

TEST_F(SocketNameTest, Missing) {
  SocketName name(path_, SOCK_STREAM, kNobody);
  EXPECT_FALSE(name.missing());
  ASSERT_TRUE(name.Bind().ok());
  EXPECT_FALSE(name.missing());
  unlink(path_.c_str());
  EXPECT_TRUE(name.missing());
  ASSERT_TRUE(name.Bind().ok());
  EXPECT_FALSE(name.missing());
}

TEST_F(SocketNameTest, UmaskOfTheProcessIsAsBefore) {
  const mode_t usual = umask(0777);
  EXPECT_TRUE(SocketName(path_, SOCK_STREAM, kNobody).Bind().ok());
  EXPECT_EQ(umask(usual), 0777U);
}

class SocketNameModeTest : public SocketNameTest, public ::testing::WithParamInterface<Access> {};

// A client that looks at the name all the time always finds the same permissions.
TEST_P(SocketNameModeTest, NeverOtherPermissionsAndNeverGone) {
  const mode_t wanted = GetParam().empty() ? 0600 : 0660;
  const std::string list = GetParam().empty() ? kOnlyOwner : kSomeList;
  std::atomic<bool> done = false;
  std::atomic<int> seen = 0;
  std::string other_list = list;
  mode_t other = wanted;
  int gone = 0;
  std::thread client([&] {
    while (!done) {
      struct stat found {};
      const bool there = stat(path_.c_str(), &found) == 0;
      if (!there && seen > 0) ++gone;
      if (!there) continue;
      ++seen;
      if ((found.st_mode & 07777) != wanted) other = found.st_mode & 07777;
      if (const std::string now = ListOf(path_); now != list) other_list = now;
    }
  });
  SocketName name(path_, SOCK_SEQPACKET, GetParam());
  for (int i = 0; i < 3000 || seen < 1000; ++i) EXPECT_TRUE(name.Bind().ok());
  done = true;
  client.join();
  EXPECT_EQ(other, wanted);
  EXPECT_EQ(other_list, list);
  EXPECT_EQ(gone, 0);
}

INSTANTIATE_TEST_SUITE_P(For, SocketNameModeTest, ::testing::Values(kNobody, kSome),
                         [](const auto& test) { return test.param.empty() ? "Nobody" : "Some"; });

}  // namespace
}  // namespace tlsbroker::supervisor
