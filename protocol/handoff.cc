// SPDX-License-Identifier: Apache-2.0
#include "protocol/handoff.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace tlsbroker::handoff {
namespace {

constexpr std::array<uint8_t, 12> kSignature = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                                0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr uint8_t kVersion2Proxy = 0x21;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr size_t kLengthOffset = 14;
constexpr size_t kFixedHeader = 16;
constexpr size_t kTlvHeader = 3;

enum Type : uint8_t {
  kAlpn = 0x01,
  kAuthority = 0x02,
  kNoop = 0x04,
  kUniqueId = 0x05,
  kSsl = 0x20,
  kHandoff = 0xe0,
  kReason = 0xe1,
  kRekeyToken = 0xe2,
  kServiceName = 0xe3,
};

enum SslType : uint8_t {
  kSslVersion = 0x21,
  kSslCommonName = 0x22,
  kSslCipher = 0x23,
  kSslKeyAlgorithm = 0x25,
  kSslGroup = 0x26,
  kSslClientCertificate = 0x28,
};

constexpr uint8_t kFlagResumed = 0x01;
constexpr uint8_t kFlagClient = 0x02;

void TlvUnlessEmpty(wire::Writer& out, uint8_t type, wire::Bytes value) {
  if (!value.empty()) out.Tlv(type, value);
}
void TlvUnlessEmpty(wire::Writer& out, uint8_t type, const std::string& text) {
  TlvUnlessEmpty(out, type, wire::AsBytes(text));
}

size_t AddressSize(bool ipv6) { return ipv6 ? 16 : 4; }

void WriteAddresses(wire::Writer& out, const Description& d) {
  const size_t size = AddressSize(d.peer.ipv6);
  out.Raw(wire::Bytes(d.peer.address).first(size));
  out.Raw(wire::Bytes(d.local.address).first(size));
  out.U16(d.peer.port).U16(d.local.port);
}

bool ReadAddresses(wire::Reader& in, bool ipv6, Description& d) {
  const wire::Bytes peer = in.Raw(AddressSize(ipv6));
  const wire::Bytes local = in.Raw(AddressSize(ipv6));
  d.peer.port = in.U16();
  d.local.port = in.U16();
  if (!in.ok()) return false;
  d.peer.ipv6 = d.local.ipv6 = ipv6;
  std::ranges::copy(peer, d.peer.address.begin());
  std::ranges::copy(local, d.local.address.begin());
  return true;
}

void WriteSsl(wire::Writer& out, const Description& d) {
  wire::Writer ssl;
  ssl.U8(d.client).U32(d.verify);
  TlvUnlessEmpty(ssl, kSslVersion, d.tls_version);
  TlvUnlessEmpty(ssl, kSslCommonName, d.client_common_name);
  TlvUnlessEmpty(ssl, kSslCipher, d.cipher);
  TlvUnlessEmpty(ssl, kSslKeyAlgorithm, d.key_algorithm);
  TlvUnlessEmpty(ssl, kSslGroup, d.group);
  TlvUnlessEmpty(ssl, kSslClientCertificate, d.client_certificate);
  if (!ssl.ok()) out.Fail();
  out.Tlv(kSsl, ssl.bytes());
}

bool ReadSsl(wire::Bytes value, Description& d) {
  wire::Reader in(value);
  d.client = in.U8();
  d.verify = in.U32();
  while (auto tlv = in.NextTlv()) {
    switch (tlv->type) {
      case kSslVersion:
        d.tls_version = wire::AsString(tlv->value);
        break;
      case kSslCommonName:
        d.client_common_name = wire::AsString(tlv->value);
        break;
      case kSslCipher:
        d.cipher = wire::AsString(tlv->value);
        break;
      case kSslKeyAlgorithm:
        d.key_algorithm = wire::AsString(tlv->value);
        break;
      case kSslGroup:
        d.group = wire::AsString(tlv->value);
        break;
      case kSslClientCertificate:
        d.client_certificate.assign(tlv->value.begin(), tlv->value.end());
        break;
      default:
        break;
    }
  }
  return in.Done();
}

bool ReadHandoff(wire::Bytes value, Description& d) {
  wire::Reader in(value);
  const uint8_t version = in.U8();
  const uint8_t mode = in.U8();
  const uint8_t flags = in.U8();
  if (!in.Done() || version != kVersion) return false;
  if (mode < static_cast<uint8_t>(Mode::kDirect) || mode > static_cast<uint8_t>(Mode::kRelay))
    return false;
  d.mode = static_cast<Mode>(mode);
  d.resumed = (flags & kFlagResumed) != 0;
  d.we_are_client = (flags & kFlagClient) != 0;
  return true;
}

bool ReadTlv(const wire::TlvView& tlv, Description& d, bool& has_handoff) {
  switch (tlv.type) {
    case kAlpn:
      d.alpn = wire::AsString(tlv.value);
      return true;
    case kAuthority:
      d.server_name = wire::AsString(tlv.value);
      return true;
    case kUniqueId:
      if (tlv.value.size() != d.unique_id.size()) return false;
      std::ranges::copy(tlv.value, d.unique_id.begin());
      return true;
    case kSsl:
      return ReadSsl(tlv.value, d);
    case kHandoff:
      has_handoff = ReadHandoff(tlv.value, d);
      return has_handoff;
    case kReason:
      d.reason = wire::AsString(tlv.value);
      return true;
    case kRekeyToken:
      d.rekey_token.assign(tlv.value.begin(), tlv.value.end());
      return true;
    case kServiceName:
      d.service = wire::AsString(tlv.value);
      return true;
    default:
      return true;
  }
}

// Receivers hand texts on as C strings: "good.example\0.evil" must not become "good.example".
bool TextsAreClean(const Description& d) {
  const std::string* const texts[] = {&d.service,     &d.reason,        &d.alpn,
                                      &d.server_name, &d.tls_version,   &d.cipher,
                                      &d.group,       &d.key_algorithm, &d.client_common_name};
  return std::ranges::none_of(texts, [](const std::string* t) { return t->find('\0') != t->npos; });
}

void Pad(wire::Writer& out) {
  if (out.size() + kTlvHeader > kPaddedSize) return;
  const std::vector<uint8_t> zeros(kPaddedSize - kTlvHeader - out.size());
  out.Tlv(kNoop, zeros);
}

}  // namespace

const char* ModeName(Mode mode) {
  switch (mode) {
    case Mode::kDirect:
      return "direct";
    case Mode::kBridge:
      return "bridge";
    case Mode::kRelay:
      return "relay";
  }
  return "unknown";
}

std::string Endpoint::AddressText() const {
  char text[INET6_ADDRSTRLEN];
  if (inet_ntop(ipv6 ? AF_INET6 : AF_INET, address.data(), text, sizeof(text)) == nullptr)
    return "";
  return text;
}

std::string Endpoint::ToString() const {
  const std::string text = AddressText();
  return (ipv6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

std::vector<uint8_t> Encode(const Description& d) {
  if (d.peer.ipv6 != d.local.ipv6 || d.service.empty() || !TextsAreClean(d)) return {};
  wire::Writer out(kPaddedSize);
  out.Raw(kSignature).U8(kVersion2Proxy).U8(d.peer.ipv6 ? kTcp6 : kTcp4).U16(0);
  WriteAddresses(out, d);
  const auto flags =
      static_cast<uint8_t>((d.resumed ? kFlagResumed : 0) | (d.we_are_client ? kFlagClient : 0));
  const std::array<uint8_t, 3> handoff = {kVersion, static_cast<uint8_t>(d.mode), flags};
  out.Tlv(kHandoff, handoff);
  out.Tlv(kServiceName, d.service);
  out.Tlv(kUniqueId, d.unique_id);
  TlvUnlessEmpty(out, kReason, d.reason);
  TlvUnlessEmpty(out, kAlpn, d.alpn);
  TlvUnlessEmpty(out, kAuthority, d.server_name);
  WriteSsl(out, d);
  TlvUnlessEmpty(out, kRekeyToken, d.rekey_token);
  Pad(out);
  if (!out.ok() || out.size() > kMaxMessage) return {};
  out.PatchU16(kLengthOffset, static_cast<uint16_t>(out.size() - kFixedHeader));
  return out.Take();
}

std::optional<Description> Decode(wire::Bytes bytes) {
  wire::Reader in(bytes);
  const wire::Bytes signature = in.Raw(kSignature.size());
  const uint8_t version_command = in.U8();
  const uint8_t family = in.U8();
  const uint16_t length = in.U16();
  if (!in.ok() || !std::ranges::equal(signature, kSignature)) return std::nullopt;
  if (version_command != kVersion2Proxy || (family != kTcp4 && family != kTcp6))
    return std::nullopt;
  if (length != in.remaining()) return std::nullopt;

  Description d;
  if (!ReadAddresses(in, family == kTcp6, d)) return std::nullopt;
  bool has_handoff = false;
  while (auto tlv = in.NextTlv()) {
    if (!ReadTlv(*tlv, d, has_handoff)) return std::nullopt;
  }
  if (!in.Done() || !has_handoff || d.service.empty() || !TextsAreClean(d)) return std::nullopt;
  return d;
}

}  // namespace tlsbroker::handoff
