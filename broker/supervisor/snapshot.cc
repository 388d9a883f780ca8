// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/snapshot.h"

#include <fcntl.h>

#include <algorithm>
#include <set>
#include <utility>

#include "broker/supervisor/setup.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

supervision::Certificate CertificateMessage(const ServiceSetup& setup, size_t index) {
  supervision::Certificate message;
  message.id = static_cast<uint16_t>(index);
  message.name = setup.certificates[index].config.name.value;
  message.chain_pem = setup.certificates[index].credential->chain_pem;
  return message;
}

supervision::Service ServiceMessage(const ServiceSetup& setup) {
  supervision::Service message;
  message.name = setup.name();
  message.certificate_ids = setup.server_certificates;
  message.wrap_trust_id = setup.wrap_trust;
  message.wrap_certificate_ids = setup.client_certificates;
  for (size_t i = 0; i < setup.upstreams.size(); ++i)
    message.upstream_ids.push_back(static_cast<uint16_t>(i));
  return message;
}

supervision::TrustAnchors TrustMessage(const ServiceSetup& setup, size_t index) {
  supervision::TrustAnchors message;
  message.id = static_cast<uint16_t>(index);
  message.name = setup.trust[index]->source.text;
  return message;
}

supervision::Upstream UpstreamMessage(const ServiceSetup& setup, size_t index) {
  const ServiceSetup::Upstream& upstream = setup.upstreams[index];
  return {.id = static_cast<uint16_t>(index),
          .name = upstream.config.name.value,
          .server_name = upstream.config.server_name,
          .alpn = upstream.config.alpn,
          .pins = upstream.config.pins,
          .trust_id = upstream.trust,
          .certificate_id = upstream.certificate};
}

// Each handshaker gets its part, and never less than one.
uint32_t Share(uint32_t limit, uint32_t handshakers) {
  return std::max((limit + handshakers - 1) / std::max(handshakers, 1U), 1U);
}

// Gives the messages that need some their descriptors.
struct Describer {
  const ServiceSetup& setup;
  SigningEnds& signing;
  UniqueFd& rekey_lock;

  absl::Status operator()(supervision::Settings& message) const {
    message.signing_requests = std::move(signing.requests);
    message.signing_answers = std::move(signing.answers);
    message.rekey_lock = std::move(rekey_lock);
    return absl::OkStatus();
  }
  absl::Status operator()(supervision::TrustAnchors& message) const {
    ASSIGN_OR_RETURN(message.file, Duplicate(setup.trust[message.id]->fd.get()));
    return absl::OkStatus();
  }
  absl::Status operator()(supervision::Service& message) const {
    ASSIGN_OR_RETURN(message.queue, Duplicate(setup.queue->sending()));
    ASSIGN_OR_RETURN(message.requests, Duplicate(setup.queue->answering()));
    return absl::OkStatus();
  }
  absl::Status operator()(auto& /*none*/) const { return absl::OkStatus(); }
};

}  // namespace

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return ErrnoStatus("copying a descriptor");
  return copy;
}

supervision::Confinement ConfinementOf(const std::optional<Account>& account) {
  if (!account) return {};
  return {.change_user = true, .uid = account->uid, .gid = account->gid};
}

std::vector<std::string> ChildEnvironment(log::Level log_level) {
  return {std::string(log::kLevelVariable) + "=" + std::to_string(static_cast<int>(log_level))};
}

supervision::Limits LimitsMessage(const ServiceSetup& setup, uint32_t handshakers) {
  const ServiceLimits& limits = setup.config.limits;
  return {.max_handshakes = Share(limits.max_handshakes, handshakers),
          .max_handshakes_per_source = Share(limits.max_handshakes_per_source, handshakers),
          .max_relayed = Share(limits.max_relayed, handshakers),
          .max_relayed_per_source = Share(limits.max_relayed_per_source, handshakers),
          .handshake_timeout_ms = static_cast<uint32_t>(limits.handshake_timeout.count())};
}

absl::StatusOr<Snapshot> KeyholderSnapshot(const ServiceSetup& setup) {
  Snapshot snapshot;
  snapshot.push_back(ConfinementOf(setup.account));
  for (size_t i = 0; i < setup.certificates.size(); ++i) {
    supervision::Certificate message = CertificateMessage(setup, i);
    const Credential& credential = *setup.certificates[i].credential;
    message.key_uri = credential.key_uri;
    if (credential.key_file) {
      ASSIGN_OR_RETURN(message.key_file, Duplicate(credential.key_file.get()));
    }
    if (credential.passphrase) {
      message.has_passphrase = true;
      ASSIGN_OR_RETURN(message.passphrase, Duplicate(credential.passphrase.get()));
    }
    snapshot.push_back(std::move(message));
  }
  snapshot.push_back(supervision::Start{});
  return snapshot;
}

supervision::HandshakerChannel ChannelMessage(const ServiceSetup& setup, uint16_t index,
                                              SigningEnds ends) {
  std::set<uint16_t> client(setup.client_certificates.begin(), setup.client_certificates.end());
  for (const auto& upstream : setup.upstreams)
    if (upstream.certificate) client.insert(*upstream.certificate);
  supervision::HandshakerChannel message;
  message.index = index;
  message.max_signatures = setup.config.limits.max_signatures;
  message.certificate_ids = setup.server_certificates;
  message.client_certificate_ids.assign(client.begin(), client.end());
  message.policy = setup.config.terms.policy;
  message.requests = std::move(ends.requests);
  message.answers = std::move(ends.answers);
  return message;
}

Snapshot ContentOf(const ServiceSetup& setup, bool first, uint32_t handshakers) {
  Snapshot content;
  supervision::Settings settings;
  settings.first = first;
  content.push_back(std::move(settings));
  content.push_back(LimitsMessage(setup, handshakers));
  for (size_t i = 0; i < setup.certificates.size(); ++i)
    content.push_back(CertificateMessage(setup, i));
  for (size_t i = 0; i < setup.trust.size(); ++i) content.push_back(TrustMessage(setup, i));
  for (size_t i = 0; i < setup.upstreams.size(); ++i) content.push_back(UpstreamMessage(setup, i));
  content.push_back(setup.config.terms);
  content.push_back(ServiceMessage(setup));
  return content;
}

absl::StatusOr<Snapshot> HandshakerSnapshot(const ServiceSetup& setup, uint16_t index,
                                            uint32_t handshakers, SigningEnds signing,
                                            UniqueFd rekey_lock) {
  Snapshot snapshot;
  snapshot.push_back(ConfinementOf(setup.account));
  for (supervision::Message& message : ContentOf(setup, index == 0, handshakers)) {
    RETURN_IF_ERROR(std::visit(Describer{setup, signing, rekey_lock}, message));
    snapshot.push_back(std::move(message));
  }
  for (const Listener& listener : setup.listeners) {
    supervision::Listener message;
    ASSIGN_OR_RETURN(message.socket, Duplicate(listener.socket->get()));
    snapshot.push_back(std::move(message));
  }
  snapshot.push_back(supervision::Start{});
  return snapshot;
}

}  // namespace tlsbroker::supervisor
