// SPDX-License-Identifier: Apache-2.0
// Messages with descriptors, from honest and from hostile senders. The hostile ones call sendmsg
// themselves, since the channel would not send such messages.

#include "protocol/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/fd_leaks.h"

namespace tlsbroker::channel {
namespace {

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
std::string Text(const Message& message) { return {message.bytes.begin(), message.bytes.end()}; }

// Sends what a hostile peer may send: any number of bytes and descriptors.
ssize_t SendRaw(int socket, std::string_view bytes, const std::vector<int>& fds) {
  iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(socket, &header, MSG_NOSIGNAL);
}

std::pair<UniqueFd, UniqueFd> StreamPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return {};
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

class Channel : public NoFdLeaks {
 protected:
  void Close() { a_.Reset(), b_.Reset(); }
  ~Channel() override { Close(); }

  size_t before_ = CountOpenFds();
  std::pair<UniqueFd, UniqueFd> pair_ = MakePair();
  UniqueFd& a_ = pair_.first;
  UniqueFd& b_ = pair_.second;
  Message message_;
};

TEST_F(Channel, KeepsMessagesApart) {
  ASSERT_EQ(Send(a_.get(), Bytes("one")), Result::kOk);
  ASSERT_EQ(Send(a_.get(), Bytes("two")), Result::kOk);
  ASSERT_EQ(Receive(b_.get(), 100, 0, message_), Result::kOk);
  EXPECT_EQ(Text(message_), "one");
  ASSERT_EQ(Receive(b_.get(), 100, 0, message_), Result::kOk);
  EXPECT_EQ(Text(message_), "two");
}

TEST_F(Channel, PassesDescriptorsCloseOnExecAndKeepsTheSenders) {
  ASSERT_EQ(Send(a_.get(), Bytes("x"), std::array{a_.get(), STDERR_FILENO}), Result::kOk);
  ASSERT_EQ(Receive(b_.get(), 1, 2, message_), Result::kOk);
  ASSERT_EQ(message_.fds.size(), 2u);
  for (const UniqueFd& fd : message_.fds) EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_GE(fcntl(a_.get(), F_GETFD), 0);
  message_.fds.clear();
}

TEST_F(Channel, ForgetsTheMessageBefore) {
  ASSERT_EQ(Send(a_.get(), Bytes("long text"), std::array{a_.get()}), Result::kOk);
  ASSERT_EQ(Send(a_.get(), Bytes("x")), Result::kOk);
  ASSERT_EQ(Receive(b_.get(), 100, 1, message_), Result::kOk);
  ASSERT_EQ(Receive(b_.get(), 100, 1, message_), Result::kOk);
  EXPECT_EQ(Text(message_), "x");
  EXPECT_TRUE(message_.fds.empty());
}

TEST_F(Channel, DoesNotWaitWhenAsked) {
  EXPECT_EQ(Receive(b_.get(), 100, 0, message_, /*dont_wait=*/true), Result::kWouldBlock);
  const std::vector<uint8_t> big(10'000);
  Result result;
  while ((result = Send(a_.get(), big, {}, /*dont_wait=*/true)) == Result::kOk) {
  }
  EXPECT_EQ(result, Result::kWouldBlock);
}

TEST_F(Channel, TellsThatThePeerIsGone) {
  a_.Reset();
  EXPECT_EQ(Receive(b_.get(), 100, 0, message_), Result::kClosed);
  EXPECT_EQ(Send(b_.get(), Bytes("x")), Result::kClosed);
}

TEST_F(Channel, DeliversWhatWasSentBeforeThePeerWent) {
  ASSERT_EQ(Send(a_.get(), Bytes("last words")), Result::kOk);
  a_.Reset();
  EXPECT_EQ(Receive(b_.get(), 100, 0, message_), Result::kOk);
  EXPECT_EQ(Receive(b_.get(), 100, 0, message_), Result::kClosed);
}

TEST_F(Channel, RefusesToSendTooMuch) {
  EXPECT_EQ(Send(a_.get(), {}), Result::kError) << "an empty packet would look like the end";
  EXPECT_EQ(Send(a_.get(), std::vector<uint8_t>(kMaxMessage + 1)), Result::kError);
  const std::vector<int> fds(kMaxFds + 1, a_.get());
  EXPECT_EQ(Send(a_.get(), Bytes("x"), fds), Result::kError);
}

TEST_F(Channel, RefusesTruncatedBytes) {
  ASSERT_EQ(SendRaw(a_.get(), "four", {a_.get()}), 4);
  EXPECT_EQ(Receive(b_.get(), 3, 1, message_), Result::kMalformed);
  ASSERT_EQ(SendRaw(a_.get(), "four", {}), 4);
  EXPECT_EQ(Receive(b_.get(), 4, 1, message_), Result::kOk);
}

// From one descriptor more than are allowed to many more than there is room for.
TEST_F(Channel, RefusesSurplusDescriptorsAndLosesNone) {
  const size_t open = CountOpenFds();
  for (size_t allowed : {0, 1, 4}) {
    for (size_t count : {allowed + 1, allowed + 2, size_t{100}, size_t{253}}) {
      ASSERT_EQ(SendRaw(a_.get(), "x", std::vector<int>(count, STDERR_FILENO)), 1);
      EXPECT_EQ(Receive(b_.get(), 100, allowed, message_), Result::kMalformed) << count;
      message_.fds.clear();
      EXPECT_EQ(CountOpenFds(), open);
    }
  }
}

TEST_F(Channel, RefusesControlMessagesThatNobodyAskedFor) {
  const int on = 1;
  ASSERT_EQ(setsockopt(b_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
  ASSERT_EQ(SendRaw(a_.get(), "x", {a_.get()}), 1);
  EXPECT_EQ(Receive(b_.get(), 100, 1, message_), Result::kMalformed);
  EXPECT_TRUE(message_.fds.empty());
}

// ---- The END message

class Stream : public Channel {
 protected:
  Stream() { pair_ = StreamPair(); }
  Result ReadAll() {
    const Result result = ReceiveStream(b_.get(), buffer_, read_);
    text_.assign(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(read_.size));
    return result;
  }

  std::array<uint8_t, 100> buffer_;
  StreamRead read_;
  std::string text_;
};

TEST_F(Stream, EndIsNoPartOfTheStream) {
  ASSERT_EQ(SendRaw(a_.get(), "data", {}), 4);
  ASSERT_EQ(SendRaw(a_.get(), "more", {}), 4);
  ASSERT_EQ(SendEnd(a_.get()), Result::kOk);
  a_.Reset();
  ASSERT_EQ(ReadAll(), Result::kOk);
  EXPECT_EQ(text_, "datamore");
  EXPECT_TRUE(read_.end);
  EXPECT_EQ(ReadAll(), Result::kClosed);
}

TEST_F(Stream, EndComesAloneToo) {
  ASSERT_EQ(SendEnd(a_.get()), Result::kOk);
  ASSERT_EQ(ReadAll(), Result::kOk);
  EXPECT_EQ(text_, "");
  EXPECT_TRUE(read_.end);
  EXPECT_EQ(ReadAll(), Result::kWouldBlock);
}

TEST_F(Stream, DataNeverCountsAsEnd) {
  ASSERT_EQ(SendRaw(a_.get(), std::string_view("\0", 1), {}), 1);
  ASSERT_EQ(ReadAll(), Result::kOk);
  EXPECT_EQ(read_.size, 1u);
  EXPECT_FALSE(read_.end);
}

TEST_F(Stream, CloseIsNoEnd) {
  ASSERT_EQ(SendRaw(a_.get(), "data", {}), 4);
  a_.Reset();
  ASSERT_EQ(ReadAll(), Result::kOk);
  EXPECT_FALSE(read_.end);
  EXPECT_EQ(ReadAll(), Result::kClosed);
}

TEST_F(Stream, EndWaitsBehindDataThatHasNoRoomYet) {
  std::array<uint8_t, 4> small;
  ASSERT_EQ(SendRaw(a_.get(), "eightlet", {}), 8);
  ASSERT_EQ(SendEnd(a_.get()), Result::kOk);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(ReceiveStream(b_.get(), small, read_), Result::kOk);
    EXPECT_EQ(read_.size, 4u);
    EXPECT_FALSE(read_.end);
  }
  ASSERT_EQ(ReceiveStream(b_.get(), small, read_), Result::kOk);
  EXPECT_EQ(read_.size, 0u);
  EXPECT_TRUE(read_.end);
}

// A worker may attach what it likes; all of it is closed.
TEST_F(Stream, DescriptorsOfAHostileEndAreClosed) {
  const size_t open = CountOpenFds();
  for (size_t count : {1, 2, 5, 100, 253}) {
    ASSERT_EQ(SendRaw(a_.get(), std::string_view("\0", 1), std::vector<int>(count, 2)), 1);
    ASSERT_EQ(ReadAll(), Result::kOk);
    EXPECT_TRUE(read_.end) << count;
    EXPECT_EQ(CountOpenFds(), open) << count;
  }
}

}  // namespace
}  // namespace tlsbroker::channel
