#include "broker/supervisor/snapshot.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

absl::StatusOr<UniqueFd> Duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return ErrnoStatus("copying a descriptor");
  return copy;
}

supervision::Confinement ConfinementOf(const Setup& setup) {
  const auto& account = setup.accounts.broker;
  if (!account) return {};
  return {.change_user = true, .uid = account->uid, .gid = account->gid};
}

std::vector<uint16_t> Ids(const std::vector<size_t>& indices) {
  return {indices.begin(), indices.end()};
}

// Every handshaker serves every service.
std::set<uint16_t> ServerCertificates(const Setup& setup) {
  std::set<uint16_t> used;
  for (const ServiceConfig& service : setup.config.services)
    used.insert(service.certificates.begin(), service.certificates.end());
  return used;
}

std::set<uint16_t> ClientCertificates(const Setup& setup) {
  std::set<uint16_t> used;
  for (const ServiceConfig& service : setup.config.services)
    used.insert(service.client_certificates.begin(), service.client_certificates.end());
  for (const UpstreamConfig& upstream : setup.config.upstreams)
    if (upstream.certificate) used.insert(static_cast<uint16_t>(*upstream.certificate));
  return used;
}

supervision::Certificate CertificateMessage(const Setup& setup, size_t index) {
  supervision::Certificate message;
  message.id = static_cast<uint16_t>(index);
  message.name = setup.config.certificates[index].name.value;
  message.chain_pem = setup.credentials[index].chain_pem;
  return message;
}

absl::StatusOr<supervision::Certificate> CertificateWithKey(const Setup& setup, size_t index) {
  supervision::Certificate message = CertificateMessage(setup, index);
  const Credential& credential = setup.credentials[index];
  message.key_uri = credential.key_uri;
  if (!credential.key_file) return message;
  // The copy shares its offset with the original, which an earlier keyholder has read to the end.
  if (lseek(credential.key_file.get(), 0, SEEK_SET) != 0)
    return ErrnoStatus("rewinding a key file");
  ASSIGN_OR_RETURN(message.key_file, Duplicate(credential.key_file.get()));
  return message;
}

absl::StatusOr<supervision::Service> ServiceMessage(const Setup& setup, size_t index) {
  const ServiceConfig& service = setup.config.services[index];
  supervision::Service message;
  message.id = static_cast<uint16_t>(index);
  message.name = service.name.value;
  message.policy = service.policy;
  message.ktls = service.ktls;
  message.rekey = service.rekey;
  message.alpn = service.alpn;
  message.certificate_ids = Ids(service.certificates);
  message.wrap_server = service.wrap_server;
  if (service.wrap_client) message.wrap_trust_id = setup.trust.general;
  message.wrap_certificate_ids = Ids(service.client_certificates);
  message.upstream_ids = Ids(service.dial);
  ASSIGN_OR_RETURN(message.queue, Duplicate(setup.queues[index]->sending()));
  ASSIGN_OR_RETURN(message.requests, Duplicate(setup.queues[index]->answering()));
  return message;
}

absl::StatusOr<supervision::TrustAnchors> TrustMessage(const Setup& setup, size_t index) {
  const Trust::File& file = setup.trust.files[index];
  supervision::TrustAnchors message;
  message.id = static_cast<uint16_t>(index);
  message.name = file.source.text;
  ASSIGN_OR_RETURN(message.file, Duplicate(file.fd.get()));
  return message;
}

supervision::Upstream UpstreamMessage(const Setup& setup, size_t index) {
  const UpstreamConfig& upstream = setup.config.upstreams[index];
  return {.id = static_cast<uint16_t>(index),
          .name = upstream.name.value,
          .server_name = upstream.server_name,
          .alpn = upstream.alpn,
          .pins = upstream.pins,
          .trust_id = setup.trust.of_upstreams[index],
          .certificate_id = upstream.certificate};
}

absl::StatusOr<supervision::Listener> ListenerMessage(const Listener& listener) {
  supervision::Listener message;
  message.service_id = static_cast<uint16_t>(listener.service);
  ASSIGN_OR_RETURN(message.socket, Duplicate(listener.socket->get()));
  return message;
}

// The limits are the broker's; each handshaker gets its part, and never less than one.
uint32_t Share(uint32_t limit, uint32_t handshakers) {
  return std::max((limit + handshakers - 1) / handshakers, 1U);
}

supervision::Settings SettingsMessage(const Setup& setup, uint32_t generation, uint16_t index,
                                      UniqueFd signing_channel, UniqueFd rekey_lock) {
  const BrokerConfig& broker = setup.config.broker;
  supervision::Settings message;
  message.index = index;
  message.generation = generation;
  message.handshake_timeout_ms = static_cast<uint32_t>(broker.handshake_timeout.count());
  message.max_handshakes = Share(broker.max_handshakes, setup.handshakers);
  message.max_handshakes_per_source = Share(broker.max_handshakes_per_source, setup.handshakers);
  message.max_relayed = Share(broker.max_relayed, setup.handshakers);
  message.signing_channel = std::move(signing_channel);
  message.rekey_lock = std::move(rekey_lock);
  return message;
}

}  // namespace

absl::StatusOr<Snapshot> KeyholderSnapshot(const Setup& setup, std::vector<UniqueFd> channels) {
  Snapshot snapshot;
  snapshot.push_back(ConfinementOf(setup));
  for (size_t i = 0; i < setup.credentials.size(); ++i) {
    ASSIGN_OR_RETURN(supervision::Certificate certificate, CertificateWithKey(setup, i));
    snapshot.push_back(std::move(certificate));
  }
  for (size_t i = 0; i < channels.size(); ++i) {
    supervision::HandshakerChannel channel;
    channel.index = static_cast<uint16_t>(i);
    channel.max_signatures = setup.config.broker.max_signatures;
    const std::set<uint16_t> server = ServerCertificates(setup);
    const std::set<uint16_t> client = ClientCertificates(setup);
    channel.certificate_ids.assign(server.begin(), server.end());
    channel.client_certificate_ids.assign(client.begin(), client.end());
    channel.channel = std::move(channels[i]);
    snapshot.push_back(std::move(channel));
  }
  snapshot.push_back(supervision::Start{});
  return snapshot;
}

absl::StatusOr<Snapshot> HandshakerSnapshot(const Setup& setup, uint32_t generation, uint16_t index,
                                            UniqueFd signing_channel, UniqueFd rekey_lock) {
  Snapshot snapshot;
  snapshot.push_back(ConfinementOf(setup));
  snapshot.push_back(
      SettingsMessage(setup, generation, index, std::move(signing_channel), std::move(rekey_lock)));
  std::set<uint16_t> used = ServerCertificates(setup);
  used.merge(ClientCertificates(setup));
  for (const uint16_t id : used) snapshot.push_back(CertificateMessage(setup, id));
  for (size_t i = 0; i < setup.trust.files.size(); ++i) {
    ASSIGN_OR_RETURN(supervision::TrustAnchors trust, TrustMessage(setup, i));
    snapshot.push_back(std::move(trust));
  }
  for (size_t i = 0; i < setup.config.upstreams.size(); ++i)
    snapshot.push_back(UpstreamMessage(setup, i));
  for (size_t i = 0; i < setup.config.services.size(); ++i) {
    ASSIGN_OR_RETURN(supervision::Service service, ServiceMessage(setup, i));
    snapshot.push_back(std::move(service));
  }
  for (const Listener& listener : setup.listeners) {
    ASSIGN_OR_RETURN(supervision::Listener message, ListenerMessage(listener));
    snapshot.push_back(std::move(message));
  }
  snapshot.push_back(supervision::Start{});
  return snapshot;
}

}  // namespace tlsbroker::supervisor
