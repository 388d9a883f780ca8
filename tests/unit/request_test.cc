// SPDX-License-Identifier: Apache-2.0
// Requests of workers to the broker: the examples of PROTOCOL.md in both directions, and what both
// sides have to refuse.

#include "protocol/request.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/unit/protocol_page.h"

namespace tlsbroker::request {
namespace {

// ---- The examples of PROTOCOL.md

const std::map<std::string, Direction> kDirections = {{"receive", Direction::kReceive},
                                                      {"send", Direction::kSend}};
const std::map<std::string, Status> kStatuses = {{"done", Status::kDone},
                                                 {"busy", Status::kBusy},
                                                 {"refused", Status::kRefused},
                                                 {"failed", Status::kFailed}};

struct Example {
  Rekey rekey;
  Answer answer;
  std::vector<uint8_t> bytes;
};

std::vector<Example> ReadExamples(const std::string& type) {
  std::vector<Example> examples;
  for (auto& block : protocol_page::ReadBlocks("request")) {
    if (block.fields["type"] != type) continue;
    const std::vector<uint8_t> token = protocol_page::ParseHex(block.fields["token"]);
    Example example{{}, {}, block.bytes};
    if (type == "rekey") example.rekey = {kDirections.at(block.fields["direction"]), token};
    if (type == "answer") example.answer = {kStatuses.at(block.fields["status"]), token};
    examples.push_back(std::move(example));
  }
  return examples;
}

TEST(ProtocolPage, HasRequestsAndAnswers) {
  EXPECT_EQ(ReadExamples("rekey").size(), 2u);
  EXPECT_EQ(ReadExamples("answer").size(), 2u);
  EXPECT_EQ(protocol_page::ReadBlocks("request").size(), 4u) << "one of no known type";
}

TEST(ProtocolPage, RequestsAreReadAndWrittenAsItSays) {
  for (const auto& [rekey, answer, bytes] : ReadExamples("rekey")) {
    EXPECT_EQ(Encode(rekey), bytes);
    const auto decoded = DecodeRekey(bytes);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->direction, rekey.direction);
    EXPECT_EQ(decoded->token, rekey.token);
  }
}

TEST(ProtocolPage, AnswersAreReadAndWrittenAsItSays) {
  for (const auto& [rekey, answer, bytes] : ReadExamples("answer")) {
    EXPECT_EQ(Encode(answer), bytes);
    const auto decoded = DecodeAnswer(bytes);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->status, answer.status);
    EXPECT_EQ(decoded->token, answer.token);
  }
}

// ---- What is not in an example

TEST(Request, EveryPrefixAndEveryExtensionIsRefused) {
  const auto bytes = Encode(Rekey{Direction::kSend, {1, 2, 3}});
  const auto decoded = DecodeRekey(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->direction, Direction::kSend);
  EXPECT_EQ(decoded->token, (std::vector<uint8_t>{1, 2, 3}));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeRekey(std::span(bytes).first(size))) << size;
  }
  auto longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(DecodeRekey(longer));
  for (const size_t at : {size_t{0}, size_t{1}, size_t{5}}) {  // version, type, direction
    auto other = bytes;
    other[at] = 9;
    EXPECT_FALSE(DecodeRekey(other)) << at;
  }
  EXPECT_FALSE(DecodeAnswer(bytes));
  const Rekey too_long{Direction::kSend, std::vector<uint8_t>(kMaxToken + 1)};
  EXPECT_FALSE(DecodeRekey(Encode(too_long)));
}

TEST(Request, AnAnswerHasATokenOnlyWhenDone) {
  EXPECT_TRUE(DecodeAnswer(Encode(Answer{Status::kDone, {1}})));
  EXPECT_FALSE(DecodeAnswer(Encode(Answer{Status::kDone, {}})));
  for (const Status status : {Status::kBusy, Status::kRefused, Status::kFailed}) {
    const auto answer = DecodeAnswer(Encode(Answer{status, {}}));
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, status);
    EXPECT_FALSE(DecodeAnswer(Encode(Answer{status, {1}})));
  }
}

}  // namespace
}  // namespace tlsbroker::request
