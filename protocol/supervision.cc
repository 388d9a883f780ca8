#include "protocol/supervision.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

namespace tlsbroker::supervision {
namespace {

// TLV types, one space for all messages.
enum Tag : uint8_t {
  kUid = 1,
  kGid,
  kIndex,
  kGeneration,
  kHandshakeTimeout,
  kMaxHandshakes,
  kMaxPerSource,
  kMaxRelayed,
  kKey,
  kId,
  kName,
  kChain,
  kKeyUri,
  kPolicyTag,
  kKtlsTag,
  kAlpn,
  kCertificateId,
  kServiceId,
  kDeadline,
  kSubject,
  kText,
  kCounterValues,
  kExpiry,
  kKernelSuite,
  kSealing,
  kRekeyTag,
  kMaxSignatures,
  kServerName,
  kPin,
  kTrustId,
  kWrapServer,
  kWrapTrustId,
  kUpstreamId,
  kRequest,
  kErrorNumber,
  kClientCertificateId,
};

constexpr size_t kMaxName = 255;
constexpr size_t kMaxText = 1024;
constexpr size_t kMaxTicketKeys = 3;

// Gives the TLVs of one message by tag and remembers whether all were known, single and
// well-formed.
class Fields {
 public:
  explicit Fields(wire::Reader& in) : in_(in) {
    while (auto tlv = in.NextTlv()) tlvs_.push_back({tlv->type, tlv->value, false});
  }

  std::optional<wire::Bytes> Optional(Tag tag) {
    for (Field& field : tlvs_) {
      if (field.tag != tag || field.used) continue;
      field.used = true;
      return field.value;
    }
    return std::nullopt;
  }
  wire::Bytes Required(Tag tag) {
    auto value = Optional(tag);
    if (!value) in_.Fail();
    return value.value_or(wire::Bytes());
  }
  std::string Text(Tag tag, size_t max) {
    const wire::Bytes value = Required(tag);
    if (value.size() > max) in_.Fail();
    return wire::AsString(value);
  }
  uint8_t U8(Tag tag) { return wire::ValueU8(in_, Required(tag)); }
  uint16_t U16(Tag tag) { return wire::ValueU16(in_, Required(tag)); }
  uint32_t U32(Tag tag) { return wire::ValueU32(in_, Required(tag)); }

  std::optional<uint16_t> OptionalU16(Tag tag) {
    const auto value = Optional(tag);
    return value ? std::optional(wire::ValueU16(in_, *value)) : std::nullopt;
  }

  std::vector<uint16_t> Ids(Tag tag) {
    std::vector<uint16_t> ids;
    while (auto value = Optional(tag)) ids.push_back(wire::ValueU16(in_, *value));
    return ids;
  }
  void Fail() { in_.Fail(); }
  // Every TLV was asked for: an unknown or a doubled one is left over.
  bool Done() const {
    return in_.Done() && std::ranges::all_of(tlvs_, [](const Field& f) { return f.used; });
  }

 private:
  struct Field {
    uint8_t tag;
    wire::Bytes value;
    bool used;
  };
  wire::Reader& in_;
  std::vector<Field> tlvs_;
};

// The descriptors of a message: a decoder takes those that belong to it, any other count is
// refused.
class Fds {
 public:
  explicit Fds(std::vector<UniqueFd> fds) : fds_(std::move(fds)) {}
  UniqueFd Only() {
    if (fds_.size() != 1) return UniqueFd();
    UniqueFd fd = std::move(fds_.front());
    fds_.clear();
    return fd;
  }
  std::pair<UniqueFd, UniqueFd> Both() {
    if (fds_.size() != 2) return {};
    std::pair<UniqueFd, UniqueFd> both(std::move(fds_[0]), std::move(fds_[1]));
    fds_.clear();
    return both;
  }
  bool AllTaken() const { return fds_.empty(); }

 private:
  std::vector<UniqueFd> fds_;
};

struct Encoder {
  wire::Writer& out;
  std::vector<int>& fds;

  void operator()(const Confinement& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kConfinement));
    if (!m.change_user) return;
    out.TlvU32(kUid, m.uid).TlvU32(kGid, m.gid);
  }
  void operator()(const Settings& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kSettings));
    out.TlvU16(kIndex, m.index).TlvU32(kGeneration, m.generation);
    out.TlvU32(kHandshakeTimeout, m.handshake_timeout_ms).TlvU32(kMaxHandshakes, m.max_handshakes);
    out.TlvU32(kMaxPerSource, m.max_handshakes_per_source).TlvU32(kMaxRelayed, m.max_relayed);
    fds.push_back(m.signing_channel.get());
    fds.push_back(m.rekey_lock.get());
  }
  void operator()(const TicketKeys& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kTicketKeys));
    for (const TicketKey& key : m.keys) {
      out.U8(kKey).U16(sizeof(key.name) + sizeof(key.cipher) + sizeof(key.mac));
      out.Raw(key.name).Raw(key.cipher).Raw(key.mac);
    }
    out.Tlv(kSealing, m.sealing);
  }
  void operator()(const Certificate& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kCertificate));
    out.TlvU16(kId, m.id).Tlv(kName, m.name).Tlv(kChain, m.chain_pem);
    if (!m.key_uri.empty()) out.Tlv(kKeyUri, m.key_uri);
    if (m.key_file) fds.push_back(m.key_file.get());
  }
  void operator()(const Service& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kService));
    out.TlvU16(kId, m.id).Tlv(kName, m.name);
    out.TlvU8(kPolicyTag, static_cast<uint8_t>(m.policy))
        .TlvU8(kKtlsTag, static_cast<uint8_t>(m.ktls))
        .TlvU8(kRekeyTag, static_cast<uint8_t>(m.rekey));
    for (const std::string& protocol : m.alpn) out.Tlv(kAlpn, protocol);
    for (const uint16_t id : m.certificate_ids) out.TlvU16(kCertificateId, id);
    out.TlvU8(kWrapServer, m.wrap_server ? 1 : 0);
    if (m.wrap_trust_id) out.TlvU16(kWrapTrustId, *m.wrap_trust_id);
    for (const uint16_t id : m.wrap_certificate_ids) out.TlvU16(kClientCertificateId, id);
    for (const uint16_t id : m.upstream_ids) out.TlvU16(kUpstreamId, id);
    fds.push_back(m.queue.get());
    fds.push_back(m.requests.get());
  }
  void operator()(const Listener& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kListener)).TlvU16(kServiceId, m.service_id);
    fds.push_back(m.socket.get());
  }
  void operator()(const HandshakerChannel& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kHandshakerChannel)).TlvU16(kIndex, m.index);
    out.TlvU32(kMaxSignatures, m.max_signatures);
    for (const uint16_t id : m.certificate_ids) out.TlvU16(kCertificateId, id);
    for (const uint16_t id : m.client_certificate_ids) out.TlvU16(kClientCertificateId, id);
    fds.push_back(m.channel.get());
  }
  void operator()(const Start&) const { out.U8(static_cast<uint8_t>(MessageType::kStart)); }
  void operator()(const Drain& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kDrain)).TlvU32(kDeadline, m.deadline_ms);
  }
  void operator()(const Ready&) const { out.U8(static_cast<uint8_t>(MessageType::kReady)); }
  void operator()(const Failed& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kFailed));
    out.TlvU8(kSubject, static_cast<uint8_t>(m.subject)).TlvU16(kId, m.id);
    out.Tlv(kText, std::string_view(m.text).substr(0, kMaxText));
  }
  void operator()(const Counters& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kCounters));
    out.U8(kCounterValues).U16(Counters::kCount * sizeof(uint64_t));
    for (const uint64_t value : {m.accepted,
                                 m.handshakes_full,
                                 m.handshakes_resumed,
                                 m.handshakes_failed,
                                 m.handshakes_timed_out,
                                 m.refused_total_limit,
                                 m.refused_source_limit,
                                 m.refused_relay_limit,
                                 m.refused_ktls_required,
                                 m.handed_off_direct,
                                 m.handed_off_relay,
                                 m.ktls_install_failed,
                                 m.queue_waits,
                                 m.relay_active,
                                 m.handshakes_active,
                                 m.sign_failed,
                                 m.rekeyed,
                                 m.rekey_refused,
                                 m.opened,
                                 m.open_failed}) {
      out.U64(value);
    }
  }
  void operator()(const Accept&) const { out.U8(static_cast<uint8_t>(MessageType::kAccept)); }
  void operator()(const Draining&) const { out.U8(static_cast<uint8_t>(MessageType::kDraining)); }
  void operator()(const Drained&) const { out.U8(static_cast<uint8_t>(MessageType::kDrained)); }
  void operator()(const Facts& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kFacts));
    for (const Facts::Expiry& expiry : m.expiries) {
      out.U8(kExpiry).U16(sizeof(uint16_t) + sizeof(uint64_t));
      out.U16(expiry.certificate_id).U64(expiry.not_after);
    }
    for (const Facts::KernelSuite& suite : m.kernel_suites) {
      out.Tlv(kKernelSuite, suite.name + '=' + suite.reason);
    }
  }
  void operator()(const ServiceCounters& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kServiceCounters)).TlvU16(kServiceId, m.service_id);
    out.U8(kCounterValues).U16(2 * sizeof(uint64_t)).U64(m.direct).U64(m.relay);
    out.Tlv(kText, m.last_reason);
  }
  void operator()(const TrustAnchors& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kTrustAnchors));
    out.TlvU16(kId, m.id).Tlv(kText, std::string_view(m.name).substr(0, kMaxText));
    fds.push_back(m.file.get());
  }
  void operator()(const Upstream& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kUpstream)).TlvU16(kId, m.id).Tlv(kName, m.name);
    out.Tlv(kServerName, m.server_name);
    for (const std::string& protocol : m.alpn) out.Tlv(kAlpn, protocol);
    for (const auto& pin : m.pins) out.Tlv(kPin, pin);
    out.TlvU16(kTrustId, m.trust_id);
    if (m.certificate_id) out.TlvU16(kClientCertificateId, *m.certificate_id);
  }
  void operator()(const Connect& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kConnect));
    out.TlvU32(kRequest, m.request).TlvU16(kUpstreamId, m.upstream_id);
  }
  void operator()(const Connected& m) const {
    out.U8(static_cast<uint8_t>(MessageType::kConnected));
    out.TlvU32(kRequest, m.request).TlvU32(kErrorNumber, m.error);
    if (m.socket) fds.push_back(m.socket.get());
  }
};

Confinement DecodeConfinement(Fields& in) {
  Confinement m;
  if (auto uid = in.Optional(kUid)) {
    wire::Reader reader(*uid);
    m.uid = reader.U32();
    m.gid = in.U32(kGid);
    m.change_user = true;
    if (!reader.Done()) in.Fail();
  }
  return m;
}

Settings DecodeSettings(Fields& in, Fds& fds) {
  Settings m;
  m.index = in.U16(kIndex);
  m.generation = in.U32(kGeneration);
  m.handshake_timeout_ms = in.U32(kHandshakeTimeout);
  m.max_handshakes = in.U32(kMaxHandshakes);
  m.max_handshakes_per_source = in.U32(kMaxPerSource);
  m.max_relayed = in.U32(kMaxRelayed);
  std::tie(m.signing_channel, m.rekey_lock) = fds.Both();
  if (!m.signing_channel) in.Fail();
  return m;
}

TicketKeys DecodeTicketKeys(Fields& in) {
  TicketKeys m;
  while (auto value = in.Optional(kKey)) {
    TicketKey key;
    wire::Reader reader(*value);
    for (std::span<uint8_t> part : {std::span<uint8_t>(key.name), std::span<uint8_t>(key.cipher),
                                    std::span<uint8_t>(key.mac)}) {
      std::ranges::copy(reader.Raw(part.size()), part.begin());
    }
    if (!reader.Done()) in.Fail();
    m.keys.push_back(key);
  }
  if (m.keys.empty() || m.keys.size() > kMaxTicketKeys) in.Fail();
  const wire::Bytes sealing = in.Required(kSealing);
  if (sealing.size() == m.sealing.size()) {
    std::ranges::copy(sealing, m.sealing.begin());
  } else {
    in.Fail();
  }
  return m;
}

Certificate DecodeCertificate(Fields& in, Fds& fds) {
  Certificate m;
  m.id = in.U16(kId);
  m.name = in.Text(kName, kMaxName);
  m.chain_pem = in.Text(kChain, kMaxChain);
  if (auto uri = in.Optional(kKeyUri)) m.key_uri = wire::AsString(*uri);
  m.key_file = fds.Only();
  if (m.key_file && !m.key_uri.empty()) in.Fail();
  return m;
}

std::vector<std::string> DecodeAlpn(Fields& in) {
  std::vector<std::string> alpn;
  while (auto value = in.Optional(kAlpn)) {
    if (value->empty() || value->size() > kMaxName) in.Fail();
    alpn.push_back(wire::AsString(*value));
  }
  return alpn;
}

Service DecodeService(Fields& in, Fds& fds) {
  Service m;
  m.id = in.U16(kId);
  m.name = in.Text(kName, kMaxName);
  const uint8_t policy = in.U8(kPolicyTag);
  const uint8_t ktls = in.U8(kKtlsTag);
  if (policy > static_cast<uint8_t>(Policy::kModern)) in.Fail();
  const uint8_t rekey = in.U8(kRekeyTag);
  if (ktls > static_cast<uint8_t>(KtlsMode::kNever)) in.Fail();
  if (rekey > static_cast<uint8_t>(RekeyMode::kRequire)) in.Fail();
  m.policy = static_cast<Policy>(policy);
  m.ktls = static_cast<KtlsMode>(ktls);
  m.rekey = static_cast<RekeyMode>(rekey);
  m.alpn = DecodeAlpn(in);
  m.certificate_ids = in.Ids(kCertificateId);
  const uint8_t wrap_server = in.U8(kWrapServer);
  if (wrap_server > 1) in.Fail();
  m.wrap_server = wrap_server == 1;
  m.wrap_trust_id = in.OptionalU16(kWrapTrustId);
  m.wrap_certificate_ids = in.Ids(kClientCertificateId);
  m.upstream_ids = in.Ids(kUpstreamId);
  std::tie(m.queue, m.requests) = fds.Both();
  if (!m.queue || m.certificate_ids.empty() || m.name.empty()) in.Fail();
  return m;
}

Listener DecodeListener(Fields& in, Fds& fds) {
  Listener m;
  m.service_id = in.U16(kServiceId);
  m.socket = fds.Only();
  if (!m.socket) in.Fail();
  return m;
}

HandshakerChannel DecodeHandshakerChannel(Fields& in, Fds& fds) {
  HandshakerChannel m;
  m.index = in.U16(kIndex);
  m.max_signatures = in.U32(kMaxSignatures);
  if (m.max_signatures == 0) in.Fail();
  m.certificate_ids = in.Ids(kCertificateId);
  m.client_certificate_ids = in.Ids(kClientCertificateId);
  m.channel = fds.Only();
  if (!m.channel) in.Fail();
  return m;
}

Failed DecodeFailed(Fields& in) {
  Failed m;
  const uint8_t subject = in.U8(kSubject);
  if (subject > static_cast<uint8_t>(Failed::Subject::kCertificateKey)) in.Fail();
  m.subject = static_cast<Failed::Subject>(subject);
  m.id = in.U16(kId);
  m.text = in.Text(kText, kMaxText);
  return m;
}

Counters DecodeCounters(Fields& in) {
  Counters m;
  wire::Reader reader(in.Required(kCounterValues));
  for (uint64_t* value : {&m.accepted,
                          &m.handshakes_full,
                          &m.handshakes_resumed,
                          &m.handshakes_failed,
                          &m.handshakes_timed_out,
                          &m.refused_total_limit,
                          &m.refused_source_limit,
                          &m.refused_relay_limit,
                          &m.refused_ktls_required,
                          &m.handed_off_direct,
                          &m.handed_off_relay,
                          &m.ktls_install_failed,
                          &m.queue_waits,
                          &m.relay_active,
                          &m.handshakes_active,
                          &m.sign_failed,
                          &m.rekeyed,
                          &m.rekey_refused,
                          &m.opened,
                          &m.open_failed}) {
    *value = reader.U64();
  }
  if (!reader.Done()) in.Fail();
  return m;
}

Facts DecodeFacts(Fields& in) {
  Facts m;
  while (auto value = in.Optional(kExpiry)) {
    wire::Reader reader(*value);
    m.expiries.push_back({reader.U16(), reader.U64()});
    if (!reader.Done()) in.Fail();
  }
  while (auto value = in.Optional(kKernelSuite)) {
    const std::string text = wire::AsString(*value);
    const size_t split = text.find('=');
    if (text.size() > kMaxName || split == std::string::npos) in.Fail();
    m.kernel_suites.push_back(
        {text.substr(0, split), split == std::string::npos ? "" : text.substr(split + 1)});
  }
  if (m.expiries.size() > Facts::kMaxExpiries) in.Fail();
  return m;
}

ServiceCounters DecodeServiceCounters(Fields& in) {
  ServiceCounters m;
  m.service_id = in.U16(kServiceId);
  wire::Reader reader(in.Required(kCounterValues));
  m.direct = reader.U64();
  m.relay = reader.U64();
  if (!reader.Done()) in.Fail();
  m.last_reason = in.Text(kText, kMaxName);
  return m;
}

TrustAnchors DecodeTrustAnchors(Fields& in, Fds& fds) {
  TrustAnchors m;
  m.id = in.U16(kId);
  m.name = in.Text(kText, kMaxText);
  m.file = fds.Only();
  if (!m.file) in.Fail();
  return m;
}

Upstream DecodeUpstream(Fields& in) {
  Upstream m;
  m.id = in.U16(kId);
  m.name = in.Text(kName, kMaxName);
  m.server_name = in.Text(kServerName, kMaxName);
  m.alpn = DecodeAlpn(in);
  while (const auto pin = in.Optional(kPin)) {
    m.pins.emplace_back(pin->begin(), pin->end());
    if (pin->size() != Upstream::kPinSize) in.Fail();
  }
  m.trust_id = in.U16(kTrustId);
  m.certificate_id = in.OptionalU16(kClientCertificateId);
  if (m.name.empty() || m.server_name.empty()) in.Fail();
  return m;
}

Connect DecodeConnect(Fields& in) {
  Connect m;
  m.request = in.U32(kRequest);
  m.upstream_id = in.U16(kUpstreamId);
  return m;
}

Connected DecodeConnected(Fields& in, Fds& fds) {
  Connected m;
  m.request = in.U32(kRequest);
  m.error = in.U32(kErrorNumber);
  m.socket = fds.Only();
  if (m.socket.valid() != (m.error == 0)) in.Fail();
  return m;
}

std::optional<Message> DecodeBody(MessageType type, Fields& in, Fds& fds) {
  switch (type) {
    case MessageType::kConfinement:
      return DecodeConfinement(in);
    case MessageType::kSettings:
      return DecodeSettings(in, fds);
    case MessageType::kTicketKeys:
      return DecodeTicketKeys(in);
    case MessageType::kCertificate:
      return DecodeCertificate(in, fds);
    case MessageType::kService:
      return DecodeService(in, fds);
    case MessageType::kListener:
      return DecodeListener(in, fds);
    case MessageType::kHandshakerChannel:
      return DecodeHandshakerChannel(in, fds);
    case MessageType::kStart:
      return Start{};
    case MessageType::kDrain:
      return Drain{in.U32(kDeadline)};
    case MessageType::kReady:
      return Ready{};
    case MessageType::kFailed:
      return DecodeFailed(in);
    case MessageType::kCounters:
      return DecodeCounters(in);
    case MessageType::kAccept:
      return Accept{};
    case MessageType::kDraining:
      return Draining{};
    case MessageType::kDrained:
      return Drained{};
    case MessageType::kFacts:
      return DecodeFacts(in);
    case MessageType::kServiceCounters:
      return DecodeServiceCounters(in);
    case MessageType::kTrustAnchors:
      return DecodeTrustAnchors(in, fds);
    case MessageType::kUpstream:
      return DecodeUpstream(in);
    case MessageType::kConnect:
      return DecodeConnect(in);
    case MessageType::kConnected:
      return DecodeConnected(in, fds);
  }
  return std::nullopt;
}

}  // namespace

Encoded Encode(const Message& message) {
  wire::Writer out;
  Encoded encoded;
  std::visit(Encoder{out, encoded.fds}, message);
  if (out.ok() && out.size() <= kMaxMessage) encoded.bytes = out.Take();
  return encoded;
}

std::optional<Message> Decode(wire::Bytes bytes, std::vector<UniqueFd> descriptors) {
  wire::Reader in(bytes);
  const auto type = static_cast<MessageType>(in.U8());
  Fields fields(in);
  Fds fds(std::move(descriptors));
  std::optional<Message> message = DecodeBody(type, fields, fds);
  if (!message || !fields.Done() || !fds.AllTaken()) return std::nullopt;
  return message;
}

}  // namespace tlsbroker::supervision
