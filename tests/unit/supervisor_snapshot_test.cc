// SPDX-License-Identifier: Apache-2.0
// The messages that a service's processes get first: they come in the order in which a process
// accepts them, and each process gets only what belongs to it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_replace.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/snapshot.h"
#include "protocol/conversation.h"
#include "protocol/supervision.h"
#include "tests/unit/bound.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker::supervisor {
namespace {

using supervision::Message;
using supervision::Phase;
using ::testing::ElementsAre;

class SnapshotTest : public NoFdLeaks {
 protected:
  SnapshotTest() {
    char name[] = "/tmp/tlsbroker-snapshot-XXXXXX";
    directory_ = mkdtemp(name);
    Write("chain", "a chain");
    Write("key", "a key");
    Write("ca", "anchors");
    Write("b.toml", R"(
      [broker]
      user = "nobody"
      [certificate.c]
      chain = "@/chain"
      key = "@/key"
      [certificate.unused]
      chain = "@/chain"
      key = "@/key"
      [upstream.u]
      address = "127.0.0.1:1"
      name = "u.test"
      ca_file = "@/ca"
      [service.s]
      listen = ["127.0.0.1:!", "127.0.0.2:!"]
      certificates = ["c"]
      dial = ["u"]
      max_handshakes = 10
      max_relayed = 2
      [service.s.worker]
      command = ["/bin/true"]
      user = "daemon"
    )");
    Diagnostics diagnostics(directory_ + "/b.toml");
    setup_ = OpenSetup(diagnostics, {}, nullptr);
    EXPECT_THAT(diagnostics.errors(), ElementsAre());
    EXPECT_EQ(setup_.credentials.size(), 1U) << "the other one is no service's";
    setup_.credentials.at(0)->chain_pem = "a chain";  // as a keyholder has found out
  }
  ~SnapshotTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, std::string text) {
    text = absl::StrReplaceAll(text, {{"@", directory_}, {"!", std::to_string(Bound().port)}});
    std::ofstream(directory_ + "/" + name) << text;
    chmod((directory_ + "/" + name).c_str(), 0600);
  }
  const ServiceSetup& service() const { return *setup_.services.at(0); }

  static SigningEnds Ends() { return {UniqueFd(dup(0)), UniqueFd(dup(0))}; }

  // The messages as the process decodes them; those that it does not accept are missing.
  static std::vector<Message> Heard(const Snapshot& snapshot,
                                    std::span<const supervision::Rule> rules) {
    std::vector<Message> heard;
    supervision::Conversation conversation(rules);
    for (const Message& message : snapshot) {
      const supervision::Encoded encoded = supervision::Encode(message);
      std::vector<UniqueFd> copies;
      for (const int fd : encoded.fds) copies.emplace_back(dup(fd));
      auto decoded = conversation.Decode(encoded.bytes, std::move(copies));
      EXPECT_TRUE(decoded) << "message " << heard.size() << ", alternative " << message.index();
      if (decoded) heard.push_back(*std::move(decoded));
    }
    EXPECT_EQ(conversation.phase(), Phase::kServes) << "it ends with Start";
    return heard;
  }

  template <typename T>
  static std::vector<const T*> Only(const std::vector<Message>& messages) {
    std::vector<const T*> only;
    for (const Message& message : messages)
      if (const T* it = std::get_if<T>(&message)) only.push_back(it);
    return only;
  }

  std::string directory_;
  tlsbroker::supervisor::Setup setup_;
};

TEST_F(SnapshotTest, AKeyholderHearsTheKeysOfItsService) {
  const auto snapshot = KeyholderSnapshot(service());
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const auto heard = Heard(*snapshot, supervision::kToKeyholder);
  const auto certificates = Only<supervision::Certificate>(heard);
  ASSERT_EQ(certificates.size(), 1U) << "the other one is no service's";
  EXPECT_EQ(certificates[0]->name, "c");
  EXPECT_TRUE(certificates[0]->key_file);
}

TEST_F(SnapshotTest, AHandshakerHearsNoKey) {
  const auto snapshot = HandshakerSnapshot(service(), 0, 2, Ends(), UniqueFd(dup(0)));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const auto heard = Heard(*snapshot, supervision::kToHandshaker);
  const auto certificates = Only<supervision::Certificate>(heard);
  ASSERT_EQ(certificates.size(), 1U);
  EXPECT_EQ(certificates[0]->chain_pem, "a chain");
  EXPECT_FALSE(certificates[0]->key_file);
  EXPECT_EQ(certificates[0]->key_uri, "");
  EXPECT_EQ(Only<supervision::Listener>(heard).size(), 2U);
  ASSERT_EQ(Only<supervision::Upstream>(heard).size(), 1U);
  ASSERT_EQ(Only<supervision::TrustAnchors>(heard).size(), 1U);
  EXPECT_EQ(Only<supervision::Upstream>(heard)[0]->trust_id,
            Only<supervision::TrustAnchors>(heard)[0]->id);
  EXPECT_TRUE(Only<supervision::Settings>(heard)[0]->first);
}

// Its TLVs, by their numbers.
std::map<uint8_t, std::vector<std::string>> FieldsOf(const Message& message) {
  const std::vector<uint8_t> bytes = supervision::EncodeValues(message);
  wire::Reader reader{wire::Bytes(bytes).subspan(1)};
  std::map<uint8_t, std::vector<std::string>> fields;
  while (const auto tlv = reader.NextTlv())
    fields[tlv->type].emplace_back(tlv->value.begin(), tlv->value.end());
  return fields;
}

// A key that the reader takes and puts nowhere would be in no message.
TEST(Terms, AllAreReadFromTheConfiguration) {
  Diagnostics diagnostics(EVERY_KEY);
  const Config config = ReadConfig(diagnostics);
  ASSERT_THAT(diagnostics.errors(), ElementsAre());
  const auto read = FieldsOf(config.services.at(0).terms);
  for (const auto& [number, value] : FieldsOf(supervision::ServiceTerms())) {
    EXPECT_NE(read.at(number), value)
        << "field " << static_cast<int>(number) << " is as by default";
  }
}

TEST_F(SnapshotTest, HandshakersShareTheLimits) {
  EXPECT_EQ(LimitsMessage(service(), 1).max_handshakes, 10U);
  EXPECT_EQ(LimitsMessage(service(), 4).max_handshakes, 3U) << "rounded up";
  EXPECT_EQ(LimitsMessage(service(), 4).max_relayed, 1U) << "none has nothing";
}

}  // namespace
}  // namespace tlsbroker::supervisor
