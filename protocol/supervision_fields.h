// SPDX-License-Identifier: Apache-2.0
// What is in each message of supervision.h: the one list that encoder, decoder, tests and fuzz
// seeds go by. A test pins the numbers, and finds a member that is not listed.

#ifndef TLSBROKER_PROTOCOL_SUPERVISION_FIELDS_H_
#define TLSBROKER_PROTOCOL_SUPERVISION_FIELDS_H_

#include "protocol/fields.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervision {

using fields::Of;

inline constexpr fields::Size kName{1, 255};
inline constexpr fields::Size kAnyNumber{0, SIZE_MAX};
inline constexpr size_t kMaxText = 1024;

// ---- From the start on ----

void ListFields(auto& v, Of<Confinement> auto& m) {
  v(1, m.change_user);
  v(2, m.uid);
  v(3, m.gid);
}

void ListFields(auto& v, Of<Settings> auto& m) {
  v(4, m.first);
  v.Fd(m.signing_requests);
  v.Fd(m.signing_answers);
  v.Fd(m.rekey_lock);
}

void ListFields(auto& v, Of<Limits> auto& m) {
  v(1, m.max_handshakes);
  v(2, m.max_handshakes_per_source);
  v(3, m.max_relayed);
  v(4, m.max_relayed_per_source);
  v(5, m.handshake_timeout_ms);
}

void ListParts(auto& v, Of<TicketKey> auto& key) {
  v(key.name);
  v(key.cipher);
  v(key.mac);
}
void ListFields(auto& v, Of<TicketKeys> auto& m) {
  v.Each(1, m.keys, {1, 3});
  v(2, m.sealing);
}

void ListFields(auto& v, Of<Certificate> auto& m) {
  v(1, m.id);
  v.Text(2, m.name, {0, kName.max});
  v.Text(3, m.chain_pem, {0, kMaxChain});
  v.MaybeCText(4, m.key_uri, kMaxChain);
  v(5, m.has_passphrase);
  v.Fd(m.passphrase, m.has_passphrase);
  v.MaybeFd(m.key_file, m.key_uri.empty());
}

void ListFields(auto& v, Of<Inspect> auto& m) {
  v(1, m.id);
  v.MaybeCText(2, m.key_uri, kMaxChain);
  v(3, m.has_key_file);
  v(4, m.has_passphrase);
  v.Fd(m.chain);
  v.Fd(m.key_file, m.has_key_file);
  v.Fd(m.passphrase, m.has_passphrase);
}

void ListFields(auto& v, Of<Inspected> auto& m) {
  v(1, m.id);
  v(2, m.last);
  v.Blob(3, m.piece, {0, Inspected::kMaxPiece});
}

void ListFields(auto& v, Of<TrustAnchors> auto& m) {
  v(1, m.id);
  v.Line(2, m.name, kMaxText);
  v.Fd(m.file);
}

void ListFields(auto& v, Of<Upstream> auto& m) {
  v(1, m.id);
  v.Text(2, m.name, kName);
  v.Text(3, m.server_name, kName);
  v.CTexts(4, m.alpn, kName, kAnyNumber.max);
  v.Each(5, m.pins, kAnyNumber);
  v(6, m.trust_id);
  v(7, m.certificate_id);
}

void ListFields(auto& v, Of<ServiceTerms> auto& m) {
  v(1, m.policy);
  v(2, m.ktls);
  v(3, m.rekey);
  v.CTexts(4, m.alpn, kName, kAnyNumber.max);
  v(5, m.wrap_server);
  v(6, m.tickets);
  v(7, m.keepalive_s);
}

void ListFields(auto& v, Of<Service> auto& m) {
  v.Text(1, m.name, kName);
  v.Each(6, m.certificate_ids, {1, kAnyNumber.max});
  v(8, m.wrap_trust_id);
  v.Each(9, m.wrap_certificate_ids, kAnyNumber);
  v.Each(10, m.upstream_ids, kAnyNumber);
  v.Fd(m.queue);
  v.Fd(m.requests);
}

void ListFields(auto& v, Of<Listener> auto& m) { v.Fd(m.socket); }

void ListFields(auto& v, Of<HandshakerChannel> auto& m) {
  v(1, m.index);
  v.NotZero(2, m.max_signatures);
  v.Each(3, m.certificate_ids, kAnyNumber);
  v.Each(4, m.client_certificate_ids, kAnyNumber);
  v(5, m.policy);
  v.Fd(m.requests);
  v.Fd(m.answers);
}

void ListFields(auto&, Of<Start> auto&) {}
void ListFields(auto&, Of<Ready> auto&) {}

void ListFields(auto& v, Of<Failed> auto& m) {
  v(1, m.subject);
  v(2, m.id);
  v.Line(3, m.text, kMaxText);
}

void ListFields(auto& v, Of<Heartbeat> auto& m) {
  v(1, m.lag_ms);
  v(2, m.busy_permille);
}

// ---- Handshakers ----

void ListParts(auto& v, Of<Facts::Expiry> auto& expiry) {
  v(expiry.certificate_id);
  v(expiry.not_after);
}
void ListParts(auto& v, Of<Facts::KernelSuite> auto& suite) {
  v.Text(suite.name, kName);
  v.Text(suite.reason, {0, kName.max});
}
void ListFields(auto& v, Of<Facts> auto& m) {
  v.Each(1, m.expiries, {0, Facts::kMaxExpiries});
  v.Each(2, m.kernel_suites, kAnyNumber);
}

void ListFields(auto&, Of<Accept> auto&) {}

void ListParts(auto& v, Of<Counters> auto& counters) {
  for (const CounterRow& row : kCounters) v(counters.*row.value);
}
void ListFields(auto& v, Of<Counters> auto& m) { v(1, m); }

void ListFields(auto& v, Of<LastReason> auto& m) { v.Line(1, m.text, kMaxText); }

void ListFields(auto& v, Of<Connect> auto& m) {
  v(1, m.request);
  v(2, m.upstream_id);
}
void ListFields(auto& v, Of<Connected> auto& m) {
  v(1, m.request);
  v(2, m.error);
  v.Fd(m.socket, m.error == 0);
}

void ListFields(auto& v, Of<Drain> auto& m) { v(1, m.deadline_ms); }
void ListFields(auto&, Of<Draining> auto&) {}
void ListFields(auto&, Of<Drained> auto&) {}

// ---- Porters ----

void ListFields(auto& v, Of<AttachPoint> auto& m) {
  v.Text(1, m.service, kName);
  v(2, m.log_level);
  v(3, m.max_attached);
  v.List(4, m.uids);
  v.List(5, m.gids);
  v.Fd(m.queue);
  v.Fd(m.requests);
}
void ListFields(auto& v, Of<StatusPoint> auto& m) { v.Fd(m.supervisor); }
void ListFields(auto& v, Of<Door> auto& m) { v.Fd(m.socket); }

void ListFields(auto& v, Of<Attached> auto& m) {
  v(1, m.number);
  v(2, m.pid);
  v(3, m.uid);
}
void ListFields(auto& v, Of<Detached> auto& m) { v(1, m.number); }

void ListFields(auto& v, Of<StatusWanted> auto& m) { v(1, m.request); }
void ListFields(auto& v, Of<StatusText> auto& m) {
  v(1, m.request);
  v.Fd(m.text);
}

// ---- Loggers ----

void ListFields(auto& v, Of<LogSource> auto& m) {
  v(1, m.id);
  v(2, m.kind);
  v.Text(3, m.tag, {1, kMaxText});
  v.Fd(m.pipe);
}
void ListFields(auto& v, Of<LogEnd> auto& m) { v(1, m.id); }
void ListFields(auto& v, Of<LogHeld> auto& m) { v(1, m.id); }
void ListFields(auto& v, Of<LogOutput> auto& m) {
  v(1, m.priorities);
  v(2, m.socket);
  v.Fd(m.fd);
}

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_SUPERVISION_FIELDS_H_
