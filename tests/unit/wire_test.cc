// SPDX-License-Identifier: Apache-2.0
// The reader and the writer of single bytes, with honest and hostile input.

#include "protocol/wire.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

namespace tlsbroker::wire {
namespace {

std::vector<uint8_t> Copy(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

TEST(Writer, WritesNetworkOrder) {
  Writer out;
  out.U8(0x01).U16(0x0203).U32(0x04050607).U64(0x08090a0b0c0d0e0f);
  std::vector<uint8_t> expected(15);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(out.Take(), expected);
}

TEST(Writer, WritesTlvs) {
  Writer out;
  out.Tlv(0x05, "ab").TlvU8(6, 7).TlvU16(8, 0x090a).TlvU32(11, 12).TlvU64(13, 14);
  const std::vector<uint8_t> expected = {5, 0, 2, 'a', 'b', 6,  0, 1, 7, 8, 0, 2, 9, 10, 11, 0,
                                         4, 0, 0, 0,   12,  13, 0, 8, 0, 0, 0, 0, 0, 0,  0,  14};
  EXPECT_EQ(out.Take(), expected);
}

TEST(Writer, FailsOnAValueThatNoLengthCanSay) {
  Writer out;
  EXPECT_TRUE(out.Tlv(1, std::vector<uint8_t>(kMaxTlvValue)).ok());
  EXPECT_FALSE(out.Tlv(1, std::vector<uint8_t>(kMaxTlvValue + 1)).ok());
}

TEST(Writer, PatchesOnlyWhatWasWritten) {
  Writer out;
  out.U32(0);
  out.PatchU16(1, 0xaabb);
  EXPECT_EQ(Copy(out.bytes()), (std::vector<uint8_t>{0, 0xaa, 0xbb, 0}));
  EXPECT_TRUE(out.ok());
  out.PatchU16(3, 1);
  EXPECT_FALSE(out.ok());
  EXPECT_EQ(out.size(), 4u);
}

TEST(Reader, ReadsWhatTheWriterWrote) {
  Writer out;
  out.U8(1).U16(2).U32(3).U64(0xffffffffffffffff).Tlv(9, "value").Raw("rest");
  Reader in(out.bytes());
  EXPECT_EQ(in.U8(), 1u);
  EXPECT_EQ(in.U16(), 2u);
  EXPECT_EQ(in.U32(), 3u);
  EXPECT_EQ(in.U64(), 0xffffffffffffffff);
  const auto tlv = in.NextTlv();
  ASSERT_TRUE(tlv.has_value());
  EXPECT_EQ(tlv->type, 9);
  EXPECT_EQ(AsString(tlv->value), "value");
  EXPECT_FALSE(in.Done());
  EXPECT_EQ(AsString(in.Raw(4)), "rest");
  EXPECT_TRUE(in.Done());
}

TEST(Reader, StaysFailedAfterAReadPastTheEnd) {
  const std::array<uint8_t, 3> bytes = {1, 2, 3};
  Reader in(bytes);
  EXPECT_EQ(in.U32(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.U8(), 0u) << "a byte is there, but nothing is read after a failure";
  EXPECT_TRUE(in.Raw(1).empty());
  EXPECT_FALSE(in.NextTlv().has_value());
  EXPECT_FALSE(in.Done());
}

TEST(Reader, RefusesEveryTruncationOfATlv) {
  Writer out;
  out.Tlv(7, "four");
  const Bytes whole = out.bytes();
  for (size_t size = 1; size < whole.size(); ++size) {
    Reader in(whole.first(size));
    EXPECT_FALSE(in.NextTlv().has_value()) << size;
    EXPECT_FALSE(in.ok()) << size;
  }
}

TEST(Reader, EndsWithoutFailureWhenNothingIsLeft) {
  Reader in(Bytes{});
  EXPECT_FALSE(in.NextTlv().has_value());
  EXPECT_TRUE(in.Done());
}

TEST(Reader, RefusesIntegersOfAnotherSize) {
  const std::array<uint8_t, 5> bytes = {1, 2, 3, 4, 5};
  Reader fits(bytes);
  EXPECT_EQ(ValueU32(fits, Bytes(bytes).first(4)), 0x01020304u);
  EXPECT_TRUE(fits.ok());
  for (size_t size : {0, 1, 3, 5}) {
    Reader parent(bytes);
    EXPECT_EQ(ValueU16(parent, Bytes(bytes).first(size)), 0u);
    EXPECT_FALSE(parent.ok()) << size;
  }
}

}  // namespace
}  // namespace tlsbroker::wire
