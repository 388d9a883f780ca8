// SPDX-License-Identifier: Apache-2.0
#include "protocol/certificate_facts.h"

#include "protocol/fields.h"
#include "protocol/service_messages.h"

namespace tlsbroker::supervision {
namespace {

using fields::Of;

constexpr fields::Size kText{0, 1024};

}  // namespace

void ListParts(auto& v, Of<CertificateFacts::Link> auto& link) {
  v.Text(link.subject, kText);
  v(link.not_before);
  v(link.not_after);
}

void ListParts(auto& v, Of<CertificateFacts::Finding> auto& finding) {
  v(finding.error);
  v(finding.about);
  v.Text(finding.wrong, kText);
  v.Text(finding.right, kText);
}

void ListFields(auto& v, Of<CertificateFacts> auto& m) {
  v.Text(1, m.chain_pem, {0, kMaxChain});
  v.Text(2, m.key, kText);
  v.Each(3, m.links, {0, CertificateFacts::kMaxLinks});
  v.CTexts(4, m.names, kText, CertificateFacts::kMaxNames);
  v.CTexts(5, m.addresses, kText, CertificateFacts::kMaxNames);
  v(6, m.self_signed);
  v(7, m.for_servers);
  v(8, m.for_clients);
  v(9, m.signs_handshakes);
  v.Each(10, m.findings, {0, CertificateFacts::kMaxFindings});
}

std::vector<uint8_t> EncodeFacts(const CertificateFacts& facts) {
  wire::Writer out;
  fields::Encoder encoder(out);
  ListFields(encoder, facts);
  if (!out.ok() || out.size() > kMaxFacts) return {};
  if (facts.chain_pem.empty() != facts.links.empty()) return {};
  return out.Take();
}

std::optional<CertificateFacts> DecodeFacts(wire::Bytes bytes) {
  if (bytes.size() > kMaxFacts) return std::nullopt;
  wire::Reader in(bytes);
  CertificateFacts facts;
  fields::Decoder decoder(in);
  ListFields(decoder, facts);
  if (!decoder.Done() || facts.chain_pem.empty() != facts.links.empty()) return std::nullopt;
  return facts;
}

}  // namespace tlsbroker::supervision
