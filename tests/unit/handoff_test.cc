// SPDX-License-Identifier: Apache-2.0
// The hand-off message: the examples of PROTOCOL.md in both directions, and what a receiver has to
// refuse.

#include "protocol/handoff.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/protocol_page.h"

namespace tlsbroker::handoff {

void PrintTo(const Description& d, std::ostream* out) {
  *out << ModeName(d.mode) << ' ' << d.peer.ToString() << ' ' << d.local.ToString() << ' '
       << d.service << " reason=" << d.reason << " alpn=" << d.alpn << " sni=" << d.server_name
       << ' ' << d.tls_version << ' ' << d.cipher << ' ' << d.group << ' ' << d.key_algorithm;
}

namespace {

using protocol_page::ParseHex;
using ::testing::Not;

MATCHER(IsRefused, "") { return !Decode(arg).has_value(); }

// ---- The examples of PROTOCOL.md

Endpoint ParseEndpoint(const std::string& text) {
  Endpoint endpoint;
  const size_t colon = text.rfind(':');
  endpoint.port = static_cast<uint16_t>(std::stoul(text.substr(colon + 1)));
  endpoint.ipv6 = text[0] == '[';
  const std::string host = endpoint.ipv6 ? text.substr(1, colon - 2) : text.substr(0, colon);
  EXPECT_EQ(inet_pton(endpoint.ipv6 ? AF_INET6 : AF_INET, host.c_str(), endpoint.address.data()),
            1);
  return endpoint;
}

Mode ParseMode(const std::string& text) {
  for (Mode mode : {Mode::kDirect, Mode::kBridge, Mode::kRelay})
    if (text == ModeName(mode)) return mode;
  ADD_FAILURE() << "unknown mode " << text;
  return Mode::kDirect;
}

Description ParseDescription(std::map<std::string, std::string> fields) {
  Description d;
  d.mode = ParseMode(fields["mode"]);
  d.resumed = fields["resumed"] == "1";
  d.peer = ParseEndpoint(fields["peer"]);
  d.local = ParseEndpoint(fields["local"]);
  d.service = fields["service"];
  for (size_t i = 0; i < d.unique_id.size(); ++i)
    d.unique_id[i] = ParseHex(fields["unique_id"].substr(2 * i, 2))[0];
  d.reason = fields["reason"];
  d.alpn = fields["alpn"];
  d.server_name = fields["server_name"];
  d.client = static_cast<uint8_t>(std::stoul(fields["client"]));
  d.verify = static_cast<uint32_t>(std::stoul(fields["verify"]));
  d.tls_version = fields["tls_version"];
  d.cipher = fields["cipher"];
  d.group = fields["group"];
  d.key_algorithm = fields["key_algorithm"];
  d.client_common_name = fields["client_common_name"];
  d.client_certificate = ParseHex(fields["client_certificate"]);
  d.rekey_token = ParseHex(fields["rekey_token"]);
  return d;
}

struct Example {
  bool sent;  // the broker of this version sends it; else a receiver only has to accept it
  Description description;
  std::vector<uint8_t> bytes;
};

std::vector<Example> ReadExamples() {
  std::vector<Example> examples;
  for (const bool sent : {true, false}) {
    for (auto& block : protocol_page::ReadBlocks(sent ? "handoff" : "handoff-receive")) {
      examples.push_back({sent, ParseDescription(block.fields), std::move(block.bytes)});
    }
  }
  return examples;
}

TEST(ProtocolPage, HasExamplesOfBothKinds) {
  size_t sent = 0;
  for (const Example& example : ReadExamples()) sent += example.sent ? 1 : 0;
  EXPECT_EQ(sent, 2u);
  EXPECT_EQ(ReadExamples().size(), 3u);
}

TEST(ProtocolPage, ExamplesAreReadAsTheySay) {
  for (const Example& example : ReadExamples())
    EXPECT_EQ(Decode(example.bytes), example.description);
}

TEST(ProtocolPage, ExamplesAreWrittenAsTheySay) {
  for (const Example& example : ReadExamples()) {
    if (!example.sent) continue;
    EXPECT_EQ(Encode(example.description), example.bytes);
  }
}

// ---- What is not in an example

Description Minimal() {
  Description d;
  d.service = "s";
  return d;
}

Description Full() {
  Description d = ReadExamples().at(1).description;
  d.client = kClientSsl | kClientCertConnection;
  d.verify = 0;
  d.group = "X25519MLKEM768";
  d.client_common_name = "jane";
  d.client_certificate.assign(3000, 0x30);
  d.rekey_token.assign(200, 0xaa);
  return d;
}

TEST(Handoff, SurvivesBothDirections) {
  for (const Description& d : {Minimal(), Full()}) {
    const std::vector<uint8_t> bytes = Encode(d);
    EXPECT_GE(bytes.size(), kPaddedSize);
    EXPECT_EQ(Decode(bytes), d);
  }
}

TEST(Handoff, IsPaddedToOneSize) {
  Description d = Minimal();
  for (size_t size = 1; size < 1000; ++size) {
    d.server_name.assign(size, 'n');
    const std::vector<uint8_t> bytes = Encode(d);
    EXPECT_EQ(Decode(bytes), d);
    // A packet that is up to two bytes too short has no room for the header of a padding.
    EXPECT_GE(bytes.size() + 2, kPaddedSize);
    if (size < 500) {
      EXPECT_EQ(bytes.size(), kPaddedSize);
    }
  }
}

TEST(Handoff, IsNotWrittenWhenItCannotBeRead) {
  Description d = Minimal();
  d.service.clear();
  EXPECT_TRUE(Encode(d).empty());
  d = Minimal();
  d.peer.ipv6 = true;
  EXPECT_TRUE(Encode(d).empty()) << "addresses of two families";
  d = Minimal();
  d.client_certificate.assign(kMaxMessage, 0x30);
  EXPECT_TRUE(Encode(d).empty()) << "larger than a receiver's buffer";
  d.client_certificate.assign(70'000, 0x30);
  EXPECT_TRUE(Encode(d).empty()) << "larger than a length can say";
}

TEST(Handoff, NeverCarriesANulInAText) {
  const std::string trick("good.example\0.evil", 18);
  for (std::string Description::*text :
       {&Description::service, &Description::reason, &Description::alpn, &Description::server_name,
        &Description::tls_version, &Description::cipher, &Description::group,
        &Description::key_algorithm, &Description::client_common_name}) {
    Description d = Minimal();
    d.*text = "good.example\x01.evil";
    std::vector<uint8_t> bytes = Encode(d);
    ASSERT_THAT(bytes, Not(IsRefused()));
    const uint8_t mark[] = {0x01, '.'};
    *std::ranges::search(bytes, mark).begin() = 0;
    EXPECT_THAT(bytes, IsRefused());
    d.*text = trick;
    EXPECT_TRUE(Encode(d).empty());
  }
}

// Tries every proper prefix, both as it is and with a length field that fits it.
TEST(Handoff, RefusesEveryTruncation) {
  const std::vector<uint8_t> whole = Encode(Full());
  for (size_t size = 0; size < whole.size(); ++size) {
    std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_THAT(cut, IsRefused()) << size;
  }
}

TEST(Handoff, RefusesTrailingBytes) {
  std::vector<uint8_t> bytes = Encode(Minimal());
  bytes.push_back(0);
  EXPECT_THAT(bytes, IsRefused());
}

// In these packets the fixed places are known: HANDOFF is the first TLV.
constexpr size_t kHandoffTlv4 = 28;

std::vector<uint8_t> With(size_t offset, uint8_t value) {
  std::vector<uint8_t> bytes = Encode(Minimal());
  bytes.at(offset) = value;
  return bytes;
}

TEST(Handoff, RefusesOtherHeaders) {
  EXPECT_THAT(With(0, 0x0a), IsRefused()) << "signature";
  EXPECT_THAT(With(12, 0x20), IsRefused()) << "command LOCAL has no addresses";
  EXPECT_THAT(With(12, 0x11), IsRefused()) << "version 1";
  EXPECT_THAT(With(13, 0x12), IsRefused()) << "UDP";
  EXPECT_THAT(With(13, 0x31), IsRefused()) << "Unix";
  EXPECT_THAT(With(13, 0x00), IsRefused()) << "unspecified";
}

TEST(Handoff, RefusesOtherVersionsAndModes) {
  ASSERT_EQ(With(0, 0x0d).at(kHandoffTlv4), 0xe0);
  EXPECT_THAT(With(kHandoffTlv4 + 3, 0), IsRefused());
  EXPECT_THAT(With(kHandoffTlv4 + 3, 2), IsRefused());
  EXPECT_THAT(With(kHandoffTlv4 + 4, 0), IsRefused());
  EXPECT_THAT(With(kHandoffTlv4 + 4, 4), IsRefused());
  EXPECT_THAT(With(kHandoffTlv4, 0xef), IsRefused()) << "no HANDOFF field at all";
  EXPECT_THAT(With(kHandoffTlv4 + 6, 0xef), IsRefused()) << "no SERVICE";
}

std::vector<uint8_t> Packet(const wire::Writer& tlvs) {
  const std::vector<uint8_t> model = Encode(Minimal());
  wire::Writer out;
  out.Raw(wire::Bytes(model).first(kHandoffTlv4)).Raw(tlvs.bytes());
  out.PatchU16(14, static_cast<uint16_t>(out.size() - 16));
  return out.Take();
}

wire::Writer& Required(wire::Writer& out) {
  const uint8_t handoff[] = {kVersion, 1, 0};
  return out.Tlv(0xe0, handoff).Tlv(0xe3, "s");
}

TEST(Handoff, RefusesFieldsOfTheWrongSize) {
  wire::Writer fine, long_handoff, short_handoff, id, empty_service, short_ssl, cut_in_ssl;
  EXPECT_THAT(Packet(Required(fine)), Not(IsRefused()));
  EXPECT_THAT(Packet(long_handoff.TlvU32(0xe0, 0x01010000).Tlv(0xe3, "s")), IsRefused());
  EXPECT_THAT(Packet(short_handoff.TlvU16(0xe0, 0x0101).Tlv(0xe3, "s")), IsRefused());
  EXPECT_THAT(Packet(Required(id).TlvU64(0x05, 1)), IsRefused());
  EXPECT_THAT(Packet(Required(empty_service).Tlv(0xe3, "")), IsRefused());
  EXPECT_THAT(Packet(Required(short_ssl).TlvU32(0x20, 0)), IsRefused());
  // A TLV inside SSL that ends beyond SSL, where more of the packet follows.
  const uint8_t ssl[] = {1, 0, 0, 0, 1, 0x21, 0, 9, 'T'};
  EXPECT_THAT(Packet(Required(cut_in_ssl).Tlv(0x20, ssl).Tlv(0x04, "padding padding")),
              IsRefused());
}

TEST(Endpoint, IsWrittenAsPeopleDo) {
  EXPECT_EQ(ParseEndpoint("192.0.2.1:443").ToString(), "192.0.2.1:443");
  EXPECT_EQ(ParseEndpoint("[2001:db8::1]:65535").ToString(), "[2001:db8::1]:65535");
  EXPECT_EQ(ParseEndpoint("[::]:0").AddressText(), "::");
}

}  // namespace
}  // namespace tlsbroker::handoff
