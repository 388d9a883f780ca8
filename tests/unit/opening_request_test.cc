// SPDX-License-Identifier: Apache-2.0
// Wrap, Dial and their answer: decoders read what encoders write, and nothing else.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "protocol/request.h"
#include "tests/unit/protocol_page.h"

namespace tlsbroker::request {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Client(std::vector<std::string> alpn = {"h2", "http/1.1"}, std::string certificate = "") {
  return Encode(Wrap{Role::kClient, "example.org", std::move(alpn), std::move(certificate)});
}

// Refuses messages that are cut short anywhere, or have something behind them.
template <typename Decode>
void RefusesAllButTheWhole(const Bytes& whole, Decode decode) {
  EXPECT_TRUE(decode(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode(wire::Bytes(whole).first(size))) << size;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(decode(longer));
  for (const size_t at : {size_t{0}, size_t{1}}) {  // version, type
    Bytes other = whole;
    other[at] = 9;
    EXPECT_FALSE(decode(other)) << at;
  }
}

TEST(ProtocolPage, ConnectionsByRequestAreWrittenAsItSays) {
  const auto blocks = protocol_page::ReadBlocks("opening");
  ASSERT_EQ(blocks.size(), 4u);
  EXPECT_EQ(Encode(Wrap{}), blocks[0].bytes);
  const auto& client = blocks[1].fields;
  EXPECT_EQ(
      Encode(Wrap{Role::kClient, client.at("name"), {client.at("alpn")}, client.at("certificate")}),
      blocks[1].bytes);
  EXPECT_EQ(Encode(Dial{blocks[2].fields.at("name")}), blocks[2].bytes);
  const auto status = static_cast<Result>(std::stoi(blocks[3].fields.at("status")));
  EXPECT_EQ(Encode(Opened{status, "", {}}), blocks[3].bytes);
}

TEST(WrapRequest, OfAClient) {
  const auto wrap = DecodeWrap(Client());
  ASSERT_TRUE(wrap);
  EXPECT_EQ(wrap->role, Role::kClient);
  EXPECT_EQ(wrap->name, "example.org");
  EXPECT_EQ(wrap->alpn, (std::vector<std::string>{"h2", "http/1.1"}));
  RefusesAllButTheWhole(Client({}), DecodeWrap);
  EXPECT_EQ(wrap->certificate, "");
}

TEST(WrapRequest, OfAClientWithACertificate) {
  const auto wrap = DecodeWrap(Client({"h2"}, "mine"));
  ASSERT_TRUE(wrap);
  EXPECT_EQ(wrap->alpn, (std::vector<std::string>{"h2"}));
  EXPECT_EQ(wrap->certificate, "mine");
  EXPECT_TRUE(DecodeWrap(Client(std::vector<std::string>(kMaxAlpn, "x"), "mine")));
  EXPECT_FALSE(DecodeWrap(Client({}, std::string(256, 'a'))));
  EXPECT_FALSE(DecodeWrap(Client({}, std::string("a\0b", 3))));
  Bytes empty = Client({});
  for (const uint8_t byte : Bytes{9, 0, 0}) empty.push_back(byte);
  EXPECT_FALSE(DecodeWrap(empty));
  Bytes twice = Client({}, "a");
  for (const uint8_t byte : Bytes{9, 0, 1, 'b'}) twice.push_back(byte);
  EXPECT_FALSE(DecodeWrap(twice));
  Bytes behind = Client({}, "a");
  for (const uint8_t byte : Bytes{6, 0, 1, 'x'}) behind.push_back(byte);
  EXPECT_FALSE(DecodeWrap(behind)) << "the order is fixed";
}

TEST(WrapRequest, OfAServer) {
  const Bytes bytes = Encode(Wrap{Role::kServer, "ignored", {"ignored"}, "ignored"});
  EXPECT_EQ(bytes, (Bytes{1, 3, 4, 0, 1, 1}));
  RefusesAllButTheWhole(bytes, DecodeWrap);
  Bytes named = bytes;
  for (const uint8_t byte : Bytes{5, 0, 1, 'a'}) named.push_back(byte);
  EXPECT_FALSE(DecodeWrap(named)) << "a server's name is the service's";
}

TEST(WrapRequest, WhatAClientCannotAskFor) {
  EXPECT_FALSE(DecodeWrap(Encode(Wrap{Role::kClient, "", {}, {}})));
  EXPECT_FALSE(DecodeWrap(Encode(Wrap{Role::kClient, std::string(256, 'a'), {}, {}})));
  EXPECT_FALSE(DecodeWrap(Encode(Wrap{Role::kClient, std::string("a\0b", 3), {}, {}})));
  EXPECT_FALSE(DecodeWrap(Client({""})));
  EXPECT_FALSE(DecodeWrap(Client({std::string(256, 'a')})));
  EXPECT_TRUE(DecodeWrap(Client(std::vector<std::string>(kMaxAlpn, "x"))));
  EXPECT_FALSE(DecodeWrap(Client(std::vector<std::string>(kMaxAlpn + 1, "x"))));
  Bytes role = Client();
  role[5] = 3;
  EXPECT_FALSE(DecodeWrap(role));
}

TEST(DialRequest, NamesAnUpstream) {
  const Bytes bytes = Encode(Dial{"redis"});
  EXPECT_EQ(bytes, (Bytes{1, 4, 5, 0, 5, 'r', 'e', 'd', 'i', 's'}));
  RefusesAllButTheWhole(bytes, DecodeDial);
  EXPECT_FALSE(DecodeDial(Encode(Dial{""})));
  EXPECT_FALSE(DecodeDial(Encode(Dial{std::string(256, 'a')})));
}

TEST(OpenedAnswer, HasADescriptionOnlyWhenDone) {
  const Bytes done = Encode(Opened{Result::kDone, "ignored", {1, 2}});
  RefusesAllButTheWhole(done, DecodeOpened);
  EXPECT_EQ(DecodeOpened(done)->description, (Bytes{1, 2}));
  EXPECT_FALSE(DecodeOpened(Encode(Opened{Result::kDone, "", {}})));
  for (auto result = uint8_t{1}; result <= static_cast<uint8_t>(Result::kFailed); ++result) {
    const auto opened =
        DecodeOpened(Encode(Opened{static_cast<Result>(result), std::string(200, 'w'), {1}}));
    ASSERT_TRUE(opened) << int{result};
    EXPECT_EQ(static_cast<uint8_t>(opened->result), result);
    EXPECT_EQ(opened->text, std::string(kMaxText, 'w'));
    EXPECT_TRUE(opened->description.empty());
  }
  Bytes unknown = Encode(Opened{Result::kFailed, "", {}});
  unknown[5] = static_cast<uint8_t>(Result::kFailed) + 1;
  EXPECT_FALSE(DecodeOpened(unknown));
}

TEST(Requests, AreNotTakenForEachOther) {
  for (const Bytes& bytes : {Client(), Encode(Dial{"a"}), Encode(Rekey{Direction::kSend, {1}}),
                             Encode(Opened{Result::kBusy, "", {}})}) {
    const int read_as = (DecodeWrap(bytes) ? 1 : 0) + (DecodeDial(bytes) ? 1 : 0) +
                        (DecodeRekey(bytes) ? 1 : 0) + (DecodeOpened(bytes) ? 1 : 0) +
                        (DecodeAnswer(bytes) ? 1 : 0);
    EXPECT_EQ(read_as, 1);
  }
}

}  // namespace
}  // namespace tlsbroker::request
