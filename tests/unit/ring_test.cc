// SPDX-License-Identifier: Apache-2.0
// Messages through memory that two processes share: whole messages, messages that wrap around the
// end, no room, and what a hostile writer can put there.

#include "protocol/ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace tlsbroker::ring {
namespace {

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class RingTest : public testing::Test {
 protected:
  RingTest()
      : ring_(Make()),
        memory_(ring_.memory.get()),
        writer_(Mapping(ring_.memory.get()), ring_.bell.get()),
        reader_(Mapping(ring_.memory.get())) {}

  std::string Text() const { return {reader_.message().begin(), reader_.message().end()}; }
  bool Rings() const {
    pollfd bell{ring_.bell.get(), POLLIN, 0};
    return poll(&bell, 1, 0) == 1;
  }
  // Writes as a writer may that does not follow the rules.
  void Write(uint32_t length, uint32_t written) {
    std::memcpy(memory_->bytes, &length, sizeof(length));
    memory_->written = written;
  }

  Ring ring_;
  Mapping memory_;
  Writer writer_;
  Reader reader_;
};

TEST_F(RingTest, MessagesArriveOneByOne) {
  EXPECT_EQ(reader_.Next(), Result::kWouldBlock);
  ASSERT_EQ(writer_.Send(Bytes("one")), Result::kOk);
  ASSERT_EQ(writer_.Send(Bytes("another")), Result::kOk);
  ASSERT_EQ(reader_.Next(), Result::kOk);
  EXPECT_EQ(Text(), "one");
  ASSERT_EQ(reader_.Next(), Result::kOk);
  EXPECT_EQ(Text(), "another");
  EXPECT_EQ(reader_.Next(), Result::kWouldBlock);
}

TEST_F(RingTest, EveryLengthAtEveryPlace) {
  std::string text;
  for (size_t i = 0; i < 3 * kMaxMessage; ++i) {
    text.assign(1 + i % kMaxMessage, static_cast<char>(i));
    ASSERT_EQ(writer_.Send(Bytes(text)), Result::kOk);
    ASSERT_EQ(reader_.Next(), Result::kOk);
    ASSERT_EQ(Text(), text);
  }
}

TEST_F(RingTest, CountsBeyondTheirLastNumber) {
  const uint32_t start = 0U - 100;
  memory_->read = start;
  memory_->written = start;
  Writer writer(Mapping(ring_.memory.get()), ring_.bell.get());
  Reader reader{Mapping(ring_.memory.get())};
  const std::string text(kMaxMessage, 'x');
  while (writer.Send(Bytes(text)) == Result::kOk) {
  }
  EXPECT_EQ(memory_->written - start, 8 * (kMaxMessage + 4));
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(reader.Next(), Result::kOk);
    ASSERT_EQ(Bytes(text).size(), reader.message().size());
    ASSERT_TRUE(std::ranges::equal(reader.message(), Bytes(text)));
  }
  EXPECT_EQ(reader.Next(), Result::kWouldBlock);
}

TEST_F(RingTest, FullIsNotLost) {
  const std::string text(1000, 'x');
  size_t sent = 0;
  while (writer_.Send(Bytes(text)) == Result::kOk) ++sent;
  EXPECT_EQ(sent, kSize / 1004);
  EXPECT_EQ(reader_.Next(), Result::kOk);
  EXPECT_EQ(writer_.Send(Bytes(text)), Result::kOk);
  EXPECT_EQ(writer_.Send(Bytes(text)), Result::kWouldBlock);
  for (size_t i = 0; i < sent; ++i) {
    ASSERT_EQ(reader_.Next(), Result::kOk);
    EXPECT_EQ(Text(), text);
  }
  EXPECT_EQ(reader_.Next(), Result::kWouldBlock);
}

TEST_F(RingTest, TakesNoMessageOfAnotherSize) {
  EXPECT_EQ(writer_.Send({}), Result::kError);
  EXPECT_EQ(writer_.Send(Bytes(std::string(kMaxMessage + 1, 'x'))), Result::kError);
  EXPECT_EQ(errno, EMSGSIZE);
}

TEST_F(RingTest, TheBellRings) {
  EXPECT_FALSE(Rings());
  EXPECT_FALSE(Silence(ring_.bell.get()));
  ASSERT_EQ(writer_.Send(Bytes("one")), Result::kOk);
  EXPECT_TRUE(Rings());
  EXPECT_TRUE(Silence(ring_.bell.get()));
  EXPECT_FALSE(Rings());
}

// All who have the bell, an eventfd, share its flags.
TEST_F(RingTest, NobodyCanMakeTheReaderWait) {
  ASSERT_EQ(fcntl(ring_.bell.get(), F_SETFL, 0), 0);
  EXPECT_FALSE(Silence(ring_.bell.get()));
}

TEST_F(RingTest, NobodyCanMakeTheWriterWait) {
  const uint64_t full = ~uint64_t{1};
  ASSERT_EQ(write(ring_.bell.get(), &full, sizeof(full)), ssize_t{sizeof(full)});
  EXPECT_EQ(writer_.Send(Bytes("one")), Result::kOk);
}

TEST_F(RingTest, KeepsItsSize) {
  EXPECT_EQ(ftruncate(ring_.memory.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(ring_.memory.get(), 1 << 20), -1);
  EXPECT_EQ(fcntl(ring_.memory.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
}

TEST_F(RingTest, SaysWhatItDoes) {
  EXPECT_EQ(reader_.doing(), 0U);
  writer_.SetDoing(47);
  EXPECT_EQ(reader_.doing(), 47U);
}

TEST_F(RingTest, MoreThanThereCanBe) {
  Write(1, kSize + 1);
  EXPECT_EQ(reader_.Next(), Result::kMalformed);
}

TEST_F(RingTest, LessThanALength) {
  Write(1, 3);
  EXPECT_EQ(reader_.Next(), Result::kMalformed);
}

TEST_F(RingTest, MoreThanWasWritten) {
  Write(5, 4 + 4);
  EXPECT_EQ(reader_.Next(), Result::kMalformed);
}

TEST_F(RingTest, AnEmptyMessage) {
  Write(0, 4);
  EXPECT_EQ(reader_.Next(), Result::kMalformed);
}

TEST_F(RingTest, TooLongAMessage) {
  Write(kMaxMessage + 1, kSize);
  EXPECT_EQ(reader_.Next(), Result::kMalformed);
}

// The writer cannot change the place at which the reader reads.
TEST_F(RingTest, TheReadersPlaceIsItsOwn) {
  ASSERT_EQ(writer_.Send(Bytes("one")), Result::kOk);
  memory_->read = 4711;
  ASSERT_EQ(reader_.Next(), Result::kOk);
  EXPECT_EQ(Text(), "one");
  EXPECT_EQ(memory_->read, 7U);
}

TEST_F(RingTest, KnowsWhatIsARing) {
  EXPECT_TRUE(IsBell(ring_.bell.get()));
  EXPECT_TRUE(IsMemory(ring_.memory.get()));
  EXPECT_FALSE(IsBell(ring_.memory.get()));
  EXPECT_FALSE(IsMemory(ring_.bell.get()));
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  EXPECT_FALSE(IsBell(writing.get()));
  EXPECT_FALSE(IsBell(-1));
  // A file of the same size that is not sealed.
  char name[] = "/tmp/tlsbroker-ring-XXXXXX";
  const UniqueFd file(mkstemp(name));
  unlink(name);
  ASSERT_EQ(ftruncate(file.get(), sizeof(Memory)), 0);
  EXPECT_FALSE(IsMemory(file.get()));
  EXPECT_EQ(Writer().Send(Bytes("one")), Result::kClosed);
}

}  // namespace
}  // namespace tlsbroker::ring
