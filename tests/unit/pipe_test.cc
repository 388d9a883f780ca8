// SPDX-License-Identifier: Apache-2.0
// Messages over pipes: whole messages, pieces of them, and what a hostile writer can put into a
// pipe.

#include "protocol/pipe.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

namespace tlsbroker::pipes {
namespace {

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string Text(const Reader& reader) {
  return {reader.message().begin(), reader.message().end()};
}

class PipeTest : public testing::Test {
 protected:
  PipeTest() : pipe_(Make()) { signal(SIGPIPE, SIG_IGN); }
  int reading() const { return pipe_.reading.get(); }
  int writing() const { return pipe_.writing.get(); }
  void WriteRaw(std::string_view bytes) {
    ASSERT_EQ(write(writing(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  Pipe pipe_;
  Reader reader_{100'000};
};

TEST_F(PipeTest, MessagesArriveOneByOne) {
  EXPECT_EQ(reader_.Next(reading()), Result::kWouldBlock);
  ASSERT_EQ(Send(writing(), Bytes("one")), Result::kOk);
  ASSERT_EQ(Send(writing(), Bytes("another")), Result::kOk);
  ASSERT_EQ(reader_.Next(reading()), Result::kOk);
  EXPECT_EQ(Text(reader_), "one");
  EXPECT_TRUE(reader_.has_next());
  ASSERT_EQ(reader_.Next(reading()), Result::kOk);
  EXPECT_EQ(Text(reader_), "another");
  EXPECT_FALSE(reader_.has_next());
  EXPECT_EQ(reader_.Next(reading()), Result::kWouldBlock);
}

TEST_F(PipeTest, ByteByByte) {
  for (const char byte : std::string("\0\0\0\3abc", 7)) {
    EXPECT_EQ(reader_.Next(reading()), Result::kWouldBlock);
    WriteRaw({&byte, 1});
  }
  ASSERT_EQ(reader_.Next(reading()), Result::kOk);
  EXPECT_EQ(Text(reader_), "abc");
}

TEST_F(PipeTest, LargeMessageInPieces) {
  const std::string large(90'000, 'x');
  const std::vector<uint8_t> frame = Frame(Bytes(large));
  std::span<const uint8_t> rest = frame;
  ASSERT_EQ(Write(writing(), rest), Result::kWouldBlock);
  ASSERT_LT(rest.size(), large.size());
  while (reader_.Next(reading()) == Result::kWouldBlock) {
    const Result result = Write(writing(), rest);
    ASSERT_TRUE(result == Result::kOk || result == Result::kWouldBlock);
  }
  EXPECT_EQ(Text(reader_), large);
}

TEST_F(PipeTest, WholeOrNotAtAll) {
  const std::string message(kMaxAtomic, 'x');
  int sent = 0;
  while (Send(writing(), Bytes(message)) == Result::kOk) ++sent;
  EXPECT_GT(sent, 0);
  int received = 0;
  pipe_.writing.Reset();
  for (Result result; (result = reader_.Next(reading())) != Result::kClosed;) {
    if (result == Result::kWouldBlock) continue;  // only a part of it has come
    ASSERT_EQ(Text(reader_), message);
    ++received;
  }
  EXPECT_EQ(received, sent);
}

TEST_F(PipeTest, TooLongAndEmpty) {
  const std::string message(kMaxAtomic, 'x');
  EXPECT_EQ(Send(writing(), Bytes(message + 'x')), Result::kError);
  EXPECT_EQ(Send(writing(), {}), Result::kError);
}

TEST_F(PipeTest, EndOfFile) {
  WriteRaw(std::string_view("\0\0\0\3ab", 6));
  pipe_.writing.Reset();
  EXPECT_EQ(reader_.Next(reading()), Result::kWouldBlock);
  EXPECT_EQ(reader_.Next(reading()), Result::kClosed);
}

TEST_F(PipeTest, NobodyReads) {
  pipe_.reading.Reset();
  EXPECT_EQ(Send(writing(), Bytes("x")), Result::kClosed);
}

TEST_F(PipeTest, LengthsThatAreNone) {
  for (const std::string_view header :
       {std::string_view("\0\0\0\0", 4), std::string_view("\0\1\x86\xa1", 4),
        std::string_view("\xff\xff\xff\xff", 4)}) {
    Pipe pipe = Make();
    Reader reader(100'000);
    ASSERT_EQ(write(pipe.writing.get(), header.data(), header.size()), 4);
    EXPECT_EQ(reader.Next(pipe.reading.get()), Result::kMalformed);
    EXPECT_EQ(reader.Next(pipe.reading.get()), Result::kMalformed);
  }
}

// This is why there are pipes and not sockets.
TEST_F(PipeTest, CarriesNoDescriptor) {
  char byte = 'x';
  iovec iov{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  EXPECT_EQ(sendmsg(writing(), &header, 0), -1);
  EXPECT_EQ(errno, ENOTSOCK);
}

}  // namespace
}  // namespace tlsbroker::pipes
