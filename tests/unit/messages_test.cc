// SPDX-License-Identifier: Apache-2.0
// The messages between processes, by the lists of their fields: numbers do not change, all members
// are listed, and decoders accept what encoders write and nothing else.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "protocol/conversation.h"
#include "protocol/request_fields.h"
#include "protocol/signing_fields.h"
#include "protocol/supervision_fields.h"
#include "tests/testlib/examples.h"

namespace tlsbroker {
namespace {

using testlib::Amount;
using testlib::Example;
using testlib::NameOf;

// ---- Lists ----

// Writes a list of fields down as text: "1 2 fd".
class Describer {
 public:
  void operator()(uint8_t tag, const auto& /*value*/) { Add(std::to_string(tag)); }
  void NotZero(uint8_t tag, uint32_t) { Add(std::to_string(tag)); }
  void Each(uint8_t tag, const auto&, fields::Size) { Add(std::to_string(tag)); }
  void List(uint8_t tag, const auto&) { Add(std::to_string(tag)); }
  void Text(uint8_t tag, const std::string&, fields::Size) { Add(std::to_string(tag)); }
  void CText(uint8_t tag, const std::string&, fields::Size) { Add(std::to_string(tag)); }
  void MaybeCText(uint8_t tag, const std::string&, size_t) { Add(std::to_string(tag)); }
  void Line(uint8_t tag, const std::string&, size_t) { Add(std::to_string(tag)); }
  void CTexts(uint8_t tag, const auto&, fields::Size, size_t) { Add(std::to_string(tag)); }
  void Blob(uint8_t tag, const auto&, fields::Size) { Add(std::to_string(tag)); }
  void Fd(const UniqueFd&, bool = true) { Add("fd"); }
  void MaybeFd(const UniqueFd&, bool) { Add("fd"); }

  const std::vector<std::string>& fields() const { return fields_; }

 private:
  void Add(std::string field) { fields_.push_back(std::move(field)); }
  std::vector<std::string> fields_;
};

template <typename Message>
std::vector<std::string> FieldsOf() {
  Describer describer;
  const Message message{};
  ListFields(describer, message);
  return describer.fields();
}

template <typename Message>
std::string Line() {
  std::string line = std::to_string(Message::kType) + ":";
  for (const std::string& field : FieldsOf<Message>()) line += " " + field;
  return line;
}

template <typename... M>
std::map<std::string, std::string> Lines(const std::variant<M...>* /*of*/) {
  return {{std::string(NameOf<M>()), Line<M>()}...};
}

// No number of a message is ever used for something else, so lines may only be added here.
TEST(Messages, NumbersStay) {
  const supervision::Message* of = nullptr;
  const std::map<std::string, std::string> expected = {
      {"Confinement", "1: 1 2 3"},
      {"Settings", "2: 4 fd fd fd"},
      {"TicketKeys", "3: 1 2"},
      {"Certificate", "4: 1 2 3 4 5 fd fd"},
      {"Service", "5: 1 6 8 9 10 fd fd"},
      {"Listener", "6: fd"},
      {"HandshakerChannel", "7: 1 2 3 4 5 fd fd"},
      {"Start", "8:"},
      {"Drain", "9: 1"},
      {"TrustAnchors", "10: 1 2 fd"},
      {"Upstream", "11: 1 2 3 4 5 6 7"},
      {"Connected", "12: 1 2 fd"},
      {"Accept", "13:"},
      {"Limits", "14: 1 2 3 4 5"},
      {"Ready", "16:"},
      {"Failed", "17: 1 2 3"},
      {"Counters", "18: 1"},
      {"Drained", "19:"},
      {"Facts", "20: 1 2"},
      {"Connect", "22: 1 2"},
      {"Draining", "23:"},
      {"Heartbeat", "24: 1 2"},
      {"LastReason", "25: 1"},
      {"ServiceTerms", "26: 1 2 3 4 5 6 7"},
      {"Inspect", "27: 1 2 3 4 fd fd fd"},
      {"Inspected", "28: 1 2 3"},
      {"LogSource", "32: 1 2 3 fd"},
      {"LogEnd", "33: 1"},
      {"LogOutput", "34: 1 2 fd"},
      {"LogHeld", "35: 1"},
      {"Door", "48: fd"},
      {"AttachPoint", "49: 1 2 3 4 5 fd fd"},
      {"StatusPoint", "50: fd"},
      {"StatusText", "51: 1 fd"},
      {"Attached", "52: 1 2 3"},
      {"Detached", "53: 1"},
      {"StatusWanted", "54: 1"},
  };
  EXPECT_EQ(Lines(of), expected);
  EXPECT_EQ(Line<signing::Sign>(), "1: 1 2 3 4");
  EXPECT_EQ(Line<signing::Signature>(), "2: 1 5");
  EXPECT_EQ(Line<signing::Refused>(), "3: 1 6");
}

// Counts how many values the braces of an aggregate take.
struct Anything {
  template <typename T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};
template <size_t>
using AnythingOf = Anything;
template <typename T, size_t... i>
constexpr bool TakesThese(std::index_sequence<i...>) {
  return requires { T{AnythingOf<i>{}...}; };
}
template <typename T, size_t n = 0>
constexpr size_t MembersOf() {
  if constexpr (TakesThese<T>(std::make_index_sequence<n + 1>())) return MembersOf<T, n + 1>();
  return n;
}

template <typename... M>
void ExpectAllListed(const std::variant<M...>* /*of*/) {
  (
      [] {
        const std::vector<std::string> fields = FieldsOf<M>();
        EXPECT_EQ(fields.size(), MembersOf<M>()) << NameOf<M>() << " has a member without a field";
        std::set<std::string> numbers(fields.begin(), fields.end());
        numbers.erase("fd");
        EXPECT_EQ(numbers.size() + static_cast<size_t>(std::ranges::count(fields, "fd")),
                  fields.size())
            << NameOf<M>() << " uses a number twice";
      }(),
      ...);
}

TEST(Messages, EachMemberIsListedOnce) {
  using Others = std::variant<signing::Sign, signing::Signature, signing::Refused>;
  // Counters are one field, with a table of their own (protocol/counters.h).
  EXPECT_EQ(MembersOf<supervision::Counters>(), supervision::kCounters.size());
  using supervision::Message;
  []<typename... M>(const std::variant<M...>* /*of*/) {
    const auto one = []<typename T>() {
      if constexpr (!std::same_as<T, supervision::Counters>)
        ExpectAllListed(static_cast<const std::variant<T>*>(nullptr));
    };
    (one.template operator()<M>(), ...);
  }(static_cast<const Message*>(nullptr));
  ExpectAllListed(static_cast<const Others*>(nullptr));
}

TEST(Messages, EachCounterHasOneRow) {
  supervision::Counters counters;
  std::set<std::string> names;
  for (const supervision::CounterRow& row : supervision::kCounters) {
    EXPECT_EQ(counters.*row.value, 0U) << row.name << " has a member twice";
    counters.*row.value = 1;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_GT(std::string(row.help).size(), 0U) << row.name;
  }
}

TEST(Messages, EachCounterIsInTheManual) {
  std::ifstream file(STATUS_PAGE);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  for (const supervision::CounterRow& row : supervision::kCounters) {
    EXPECT_THAT(page, testing::HasSubstr("\n.B " + std::string(row.name) + "\n" + row.help + "\n"));
  }
}

// ---- Encoders and decoders ----

std::vector<UniqueFd> Copies(const std::vector<int>& fds) {
  std::vector<UniqueFd> copies;
  for (const int fd : fds) copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return copies;
}

// Calls check(name, message) with each example of each message of the control channels.
template <typename... M>
void ForEachExample(const std::variant<M...>* /*of*/, auto&& check) {
  for (const Amount amount : testlib::kAmounts) {
    (check(std::string(NameOf<M>()) + " with the " + testlib::NameOf(amount),
           supervision::Message(Example<M>(amount))),
     ...);
  }
}
const supervision::Message* const kAll = nullptr;

TEST(ControlMessages, ComeBackAsTheyWere) {
  ForEachExample(kAll, [](const std::string& name, const supervision::Message& message) {
    SCOPED_TRACE(name);
    const supervision::Encoded encoded = supervision::Encode(message);
    ASSERT_FALSE(encoded.bytes.empty());
    const auto decoded = supervision::Decode(encoded.bytes, Copies(encoded.fds));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->index(), message.index());
    const supervision::Encoded again = supervision::Encode(*decoded);
    EXPECT_EQ(again.bytes, encoded.bytes);
    EXPECT_EQ(again.fds.size(), encoded.fds.size());
  });
}

TEST(ControlMessages, CanBeComparedWithoutDescriptors) {
  ForEachExample(kAll, [](const std::string& name, const supervision::Message& message) {
    EXPECT_EQ(supervision::EncodeValues(message), supervision::Encode(message).bytes) << name;
  });
  EXPECT_GT(supervision::EncodeValues(supervision::Settings{.first = true}).size(), 1U);
}

TEST(ControlMessages, WithOneDescriptorMoreOrLessAreRefused) {
  ForEachExample(kAll, [](const std::string& name, const supervision::Message& message) {
    SCOPED_TRACE(name);
    const supervision::Encoded encoded = supervision::Encode(message);
    std::vector<int> fds = encoded.fds;
    const UniqueFd one_more(open("/dev/null", O_RDONLY | O_CLOEXEC));
    fds.push_back(one_more.get());
    EXPECT_FALSE(supervision::Decode(encoded.bytes, Copies(fds)));
    // A Certificate without a descriptor is valid: handshakers get it without the key.
    if (encoded.fds.empty() || name.starts_with("Certificate")) return;
    fds.resize(encoded.fds.size() - 1);
    EXPECT_FALSE(supervision::Decode(encoded.bytes, Copies(fds)));
  });
}

// A message that was cut or extended is invalid, or it is another message that an encoder would
// write in just this way.
void ExpectStrict(const std::vector<uint8_t>& bytes, const std::vector<int>& fds) {
  const auto decoded = supervision::Decode(bytes, Copies(fds));
  if (!decoded) return;
  EXPECT_EQ(supervision::Encode(*decoded).bytes, bytes);
}

TEST(ControlMessages, AreWrittenInOneWayOnly) {
  ForEachExample(kAll, [](const std::string& name, const supervision::Message& message) {
    SCOPED_TRACE(name);
    const supervision::Encoded encoded = supervision::Encode(message);
    for (size_t size = 0; size < encoded.bytes.size(); ++size) {
      ExpectStrict({encoded.bytes.begin(), encoded.bytes.begin() + static_cast<ptrdiff_t>(size)},
                   encoded.fds);
    }
    for (size_t i = 0; i < std::min<size_t>(encoded.bytes.size(), 400); ++i) {
      for (const int change : {1, 0x7f, 0x80, 0xff}) {
        std::vector<uint8_t> changed = encoded.bytes;
        changed[i] = static_cast<uint8_t>(changed[i] ^ change);
        ExpectStrict(changed, encoded.fds);
      }
    }
    std::vector<uint8_t> longer = encoded.bytes;
    longer.insert(longer.end(), {0xee, 0, 0});  // a TLV that no message has
    EXPECT_FALSE(supervision::Decode(longer, Copies(encoded.fds)));
    // The last TLV is repeated.
    if (encoded.bytes.size() < 5 || encoded.bytes[2] != 0) return;
    std::vector<uint8_t> doubled = encoded.bytes;
    const size_t first = 1 + 3 + size_t{encoded.bytes[3]};
    doubled.insert(doubled.end(), encoded.bytes.begin() + 1,
                   encoded.bytes.begin() + static_cast<ptrdiff_t>(first));
    ExpectStrict(doubled, encoded.fds);
  });
}

TEST(ControlMessages, ThatADecoderWouldRefuseAreNotWritten) {
  using namespace supervision;
  Certificate certificate = Example<Certificate>(Amount::kLeast);
  certificate.key_uri = "pkcs11:object=x";  // it has a file as well
  EXPECT_TRUE(Encode(std::move(certificate)).bytes.empty());
  Certificate long_chain;
  long_chain.chain_pem.assign(kMaxChain + 1, 'x');
  EXPECT_TRUE(Encode(std::move(long_chain)).bytes.empty());
  EXPECT_TRUE(Encode(Listener{}).bytes.empty());
  EXPECT_TRUE(Encode(Connected{.request = 1, .error = 0, .socket = {}}).bytes.empty());
  EXPECT_TRUE(Encode(TicketKeys{}).bytes.empty());
  EXPECT_FALSE(Encode(LastReason{std::string(5000, 'x')}).bytes.empty());  // the text is cut
}

// ---- Who may say what, and when ----

struct Table {
  const char* name;
  std::span<const supervision::Rule> rules;
};
const Table kTables[] = {
    {"to the keyholder", supervision::kToKeyholder},
    {"to a handshaker", supervision::kToHandshaker},
    {"to a porter", supervision::kToPorter},
    {"to a logger", supervision::kToLogger},
    {"from the keyholder", supervision::kFromKeyholder},
    {"from a handshaker", supervision::kFromHandshaker},
    {"from a porter", supervision::kFromPorter},
    {"from a logger", supervision::kFromLogger},
};

bool Says(supervision::Conversation& conversation, const supervision::Message& message) {
  const supervision::Encoded encoded = supervision::Encode(message);
  return conversation.Decode(encoded.bytes, Copies(encoded.fds)).has_value();
}

template <typename... M>
supervision::Message ExampleOf(uint8_t type, const std::variant<M...>* /*of*/) {
  std::optional<supervision::Message> message;
  (void)((M::kType == type && (message.emplace(Example<M>(Amount::kLeast)), true)) || ...);
  return *std::move(message);
}
supervision::Message ExampleOf(uint8_t type) { return ExampleOf(type, kAll); }

// A conversation in this phase, whatever messages lead there.
supervision::Conversation In(const Table& table, supervision::Phase phase) {
  supervision::Conversation conversation(table.rules);
  while (conversation.phase() != phase) {
    const auto before = conversation.phase();
    for (const supervision::Rule& rule : table.rules) {
      const bool leads =
          rule.then > before && rule.then <= phase && rule.type != supervision::Failed::kType;
      if (leads && (rule.phases & static_cast<uint8_t>(before)) != 0) {
        EXPECT_TRUE(Says(conversation, ExampleOf(rule.type)));
        break;
      }
    }
    if (conversation.phase() == before) break;  // there is no such phase
  }
  return conversation;
}

TEST(Conversations, HaveTheRightMessagesInTheRightPhase) {
  using supervision::Phase;
  for (const Table& table : kTables) {
    for (const Phase phase : {Phase::kBegins, Phase::kSnapshot, Phase::kServes, Phase::kDrains}) {
      if (In(table, phase).phase() != phase) continue;
      ForEachExample(kAll, [&](const std::string& name, const supervision::Message& message) {
        const uint8_t type = std::visit([](const auto& m) { return m.kType; }, message);
        const supervision::Rule* rule = nullptr;
        for (const supervision::Rule& one : table.rules) {
          if (one.type == type && (one.phases & static_cast<uint8_t>(phase)) != 0) rule = &one;
        }
        SCOPED_TRACE(std::string(table.name) + ", phase " +
                     std::to_string(static_cast<int>(phase)) + ": " + name);
        supervision::Conversation conversation = In(table, phase);
        EXPECT_EQ(Says(conversation, message), rule != nullptr);
        if (rule == nullptr || rule->times != supervision::Rule::Times::kOnce) return;
        EXPECT_FALSE(Says(conversation, message)) << "a second time";
      });
    }
  }
}

TEST(Conversations, OfAHandshaker) {
  using namespace supervision;
  Conversation down(kToHandshaker);
  for (const uint8_t type :
       {Confinement::kType, Settings::kType, Limits::kType, TicketKeys::kType, Certificate::kType,
        TrustAnchors::kType, Upstream::kType, ServiceTerms::kType, Service::kType, Listener::kType,
        Listener::kType, Start::kType, Accept::kType, TicketKeys::kType, Limits::kType,
        Drain::kType, Drain::kType}) {
    EXPECT_TRUE(Says(down, ExampleOf(type))) << static_cast<int>(type);
  }
  Conversation up(kFromHandshaker);
  for (const uint8_t type :
       {Facts::kType, Facts::kType, Ready::kType, Heartbeat::kType, Counters::kType, Connect::kType,
        Failed::kType, LastReason::kType, Draining::kType, Heartbeat::kType, Draining::kType,
        Counters::kType, Drained::kType}) {
    EXPECT_TRUE(Says(up, ExampleOf(type))) << static_cast<int>(type);
  }
  EXPECT_EQ(up.phase(), Phase::kOver);
  EXPECT_FALSE(Says(up, ExampleOf(Heartbeat::kType)));
}

// Each message is allowed on some channel, and all tables consist of messages that exist.
TEST(Conversations, KnowAllMessages) {
  std::set<uint8_t> said;
  for (const Table& table : kTables) {
    for (const supervision::Rule& rule : table.rules) said.insert(rule.type);
  }
  std::set<uint8_t> all;
  ForEachExample(kAll, [&](const std::string& /*name*/, const supervision::Message& message) {
    all.insert(std::visit([](const auto& m) { return m.kType; }, message));
  });
  EXPECT_EQ(said, all);
}

}  // namespace
}  // namespace tlsbroker
