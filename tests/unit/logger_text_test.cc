// SPDX-License-Identifier: Apache-2.0
// How the logger handles bytes: lines, priorities, text that is safe to show.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "broker/logger/escape.h"
#include "broker/logger/line.h"

namespace tlsbroker::logger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

std::string Escaped(std::string_view text) { return Escape(text, 10'000).text; }

TEST(EscapeTest, TextStays) {
  for (const char* text :
       {"", "plain text", "a\ttab", "back\\slash and \\x1b", "Grüße, 你好, 🙂",
        "\u00a0\u07ff\u0800\uffff\U00010000\U0010ffff"}) {
    EXPECT_EQ(Escaped(text), text);
  }
}

TEST(EscapeTest, ControlCharacters) {
  EXPECT_EQ(Escaped("\x1b[2J"), "\\x1b[2J");
  EXPECT_EQ(Escaped(std::string_view("a\0b\r\n\x7f", 6)), "a\\x00b\\x0d\\x0a\\x7f");
  EXPECT_EQ(Escaped("\u0080\u009b\u009f"), "\\xc2\\x80\\xc2\\x9b\\xc2\\x9f") << "C1";
  EXPECT_EQ(Escaped("\u2028\u2029"), "\\xe2\\x80\\xa8\\xe2\\x80\\xa9") << "separators";
}

TEST(EscapeTest, Directions) {
  for (const char* text : {"\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067",
                           "\u2068", "\u2069", "\u200e", "\u200f", "\u061c"}) {
    EXPECT_THAT(Escaped(text), testing::StartsWith("\\x")) << Escaped(text);
  }
  EXPECT_EQ(Escaped("\u2027\u202f\u2065\u206a"), "\u2027\u202f\u2065\u206a") << "beside them";
}

TEST(EscapeTest, WhatIsNoUtf8) {
  EXPECT_EQ(Escaped("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(Escaped("\x80"), "\\x80") << "a rest without a start";
  EXPECT_EQ(Escaped("\xc3"), "\\xc3") << "a start without a rest";
  EXPECT_EQ(Escaped("\xc3("), "\\xc3(");
  EXPECT_EQ(Escaped("\xc0\x8a"), "\\xc0\\x8a") << "a line feed, too long";
  EXPECT_EQ(Escaped("\xe0\x80\x8a"), "\\xe0\\x80\\x8a");
  EXPECT_EQ(Escaped("\xf0\x80\x80\x8a"), "\\xf0\\x80\\x80\\x8a");
  EXPECT_EQ(Escaped("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(Escaped("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "beyond Unicode";
}

TEST(EscapeTest, NothingIsCutInTwo) {
  const auto escaped = Escape("ab\x01", 5);
  EXPECT_EQ(escaped.text, "ab");
  EXPECT_FALSE(escaped.whole);
  EXPECT_EQ(Escape("a\u00fc", 2).text, "a");
  EXPECT_TRUE(Escape("a\u00fc", 3).whole);
}

class Splitter : public testing::Test {
 protected:
  void Add(std::string_view bytes) { splitter_.Add(bytes, take_); }
  void End() { splitter_.End(take_); }

  LineSplitter splitter_;
  std::vector<std::pair<std::string, bool>> lines_;
  const LineSplitter::Take take_ = [this](std::string_view line, bool whole) {
    lines_.emplace_back(line, whole);
  };
};

TEST_F(Splitter, LinesInPieces) {
  Add("one\ntw");
  EXPECT_THAT(lines_, ElementsAre(Pair("one", true)));
  Add("");
  Add("o\n\n\r\nthree\r\n");
  EXPECT_THAT(lines_, ElementsAre(Pair("one", true), Pair("two", true), Pair("three", true)));
  Add("last");
  End();
  EXPECT_THAT(lines_.back(), Pair("last", true));
  End();
  EXPECT_EQ(lines_.size(), 4U) << "there is nothing more";
}

TEST_F(Splitter, LongLinesAreCut) {
  const std::string longest(LineSplitter::kMaxLine, 'x');
  Add(longest + "\n");
  Add(longest.substr(1));
  Add("yy");
  Add(std::string(1'000'000, 'z'));
  Add("\nnext\n");
  EXPECT_THAT(lines_, ElementsAre(Pair(longest, true), Pair(longest.substr(1) + "y", false),
                                  Pair("next", true)));
}

TEST(PriorityTest, AtTheStart) {
  const auto take = [](std::string_view line) {
    const int priority = TakePriority(line, 6);
    return std::pair(priority, std::string(line));
  };
  EXPECT_THAT(take("<3>text"), Pair(3, "text"));
  EXPECT_THAT(take("<7>text"), Pair(7, "text"));
  EXPECT_THAT(take("<0>text"), Pair(3, "text")) << "nobody shouts";
  EXPECT_THAT(take("<2><0>text"), Pair(3, "<0>text"));
  for (const char* text : {"text", "<8>text", "<>text", "<30>text", " <3>text", "<3", "<-1>"})
    EXPECT_THAT(take(text), Pair(6, text));
}

TEST(FormatTest, Parts) {
  EXPECT_EQ(FormatLine(true, 4, "worker.web[1]: ", "a\x1b", true), "<4>worker.web[1]: a\\x1b\n");
  EXPECT_EQ(FormatLine(false, 4, "keyholder: ", "text", true), "keyholder: text\n");
  EXPECT_EQ(FormatLine(false, 4, "keyholder: ", "text", false), "keyholder: text [cut]\n");
}

TEST(FormatTest, FitsIntoAPipeAtOnce) {
  const std::string line = FormatLine(true, 6, "worker.web[1]: ", std::string(4096, '\x01'), true);
  EXPECT_LE(line.size(), size_t{PIPE_BUF});
  EXPECT_GT(line.size(), size_t{PIPE_BUF} - 8);
  EXPECT_THAT(line, testing::EndsWith("\\x01 [cut]\n"));
  EXPECT_LE(FormatLine(true, 6, std::string(4000, 't'), std::string(4096, 'x'), true).size(),
            size_t{PIPE_BUF});
}

}  // namespace
}  // namespace tlsbroker::logger
