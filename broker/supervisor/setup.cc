// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/setup.h"

#include <sched.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/supervisor/runtime_dir.h"
#include "broker/supervisor/snapshot.h"
#include "broker/supervisor/worker_check.h"
#include "broker/support/log.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

// One per CPU that this process may run on.
uint32_t CpuCount() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(std::max(CPU_COUNT(&set), 1));
}

// Takes what one service needs from what the whole configuration has.
class Extractor {
 public:
  Extractor(const Config& config, const std::vector<std::shared_ptr<Credential>>& credentials,
            const Trust& trust, ServiceSetup& service)
      : config_(config), credentials_(credentials), trust_(trust), service_(service) {}

  void Extract() {
    const ServiceConfig& config = service_.config;
    for (const size_t index : config.certificates)
      service_.server_certificates.push_back(Certificate(index));
    for (const size_t index : config.client_certificates)
      service_.client_certificates.push_back(Certificate(index));
    if (config.wrap_client && trust_.general) service_.wrap_trust = TrustOf(*trust_.general);
    for (const size_t index : config.dial) Upstream(index);
  }

 private:
  uint16_t Certificate(size_t index) {
    const auto [place, is_new] =
        certificates_.try_emplace(index, static_cast<uint16_t>(service_.certificates.size()));
    if (is_new) service_.certificates.push_back({config_.certificates[index], credentials_[index]});
    return place->second;
  }

  uint16_t TrustOf(uint16_t index) {
    const auto [place, is_new] =
        trust_ids_.try_emplace(index, static_cast<uint16_t>(service_.trust.size()));
    if (is_new) service_.trust.push_back(trust_.files[index]);
    return place->second;
  }

  void Upstream(size_t index) {
    ServiceSetup::Upstream upstream{.config = config_.upstreams[index],
                                    .certificate = {},
                                    .trust = TrustOf(trust_.of_upstreams[index])};
    if (upstream.config.certificate)
      upstream.certificate = Certificate(*upstream.config.certificate);
    service_.upstreams.push_back(std::move(upstream));
  }

  const Config& config_;
  const std::vector<std::shared_ptr<Credential>>& credentials_;
  const Trust& trust_;
  ServiceSetup& service_;
  std::map<size_t, uint16_t> certificates_;
  std::map<uint16_t, uint16_t> trust_ids_;
};

ServiceSetup CheckService(const Setup& setup, size_t index, const Accounts& accounts,
                          const std::vector<std::shared_ptr<Credential>>& credentials,
                          const Trust& trust) {
  ServiceSetup service;
  service.file = setup.file;
  service.config = setup.config.services[index];
  service.log_level = setup.config.broker.log_level;
  service.drain_timeout = setup.config.broker.drain_timeout;
  service.runtime_dir = setup.config.broker.runtime_dir.value;
  service.account = accounts.services[index].broker;
  service.worker_account = accounts.services[index].worker;
  const uint32_t wanted = service.config.max_handshakers;
  service.max_handshakers =
      std::max(wanted == 0 ? CpuCount() : wanted, service.config.min_handshakers);
  Extractor(setup.config, credentials, trust, service).Extract();
  return service;
}

// A certificate that no service uses is in no keyholder, so nobody checks it.
void WarnOfUnused(const Config& config, Diagnostics& diagnostics) {
  std::vector<bool> used(config.certificates.size());
  for (const ServiceConfig& service : config.services) {
    for (const auto* list : {&service.certificates, &service.client_certificates}) {
      for (const size_t index : *list) used[index] = true;
    }
    for (const size_t upstream : service.dial) {
      if (const auto index = config.upstreams[upstream].certificate) used[*index] = true;
    }
  }
  for (size_t i = 0; i < used.size(); ++i) {
    const auto& name = config.certificates[i].name;
    if (used[i]) continue;
    diagnostics.Warning(name.position, "no service uses the certificate \"" + name.value + "\"",
                        "name it in 'certificates' of a service, or leave it out");
  }
}

const ServiceSetup* FindService(const Setup* setup, const std::string& name) {
  if (setup == nullptr) return nullptr;
  const auto found =
      std::ranges::find(setup->services, name, [](const auto& service) { return service->name(); });
  return found == setup->services.end() ? nullptr : found->get();
}

std::shared_ptr<Queue> OpenQueue(const ServiceConfig& service, Diagnostics& diagnostics) {
  auto queue = Queue::Open(service.backlog.value, service.name.value);
  if (queue.ok()) return std::make_shared<Queue>(*std::move(queue));
  diagnostics.Error(service.backlog.position,
                    "the queue cannot be made: " + std::string(queue.status().message()),
                    "more descriptors (LimitNOFILE=) or a smaller backlog may help");
  return nullptr;
}

// Checks everything but listeners and queues.
std::vector<ServiceSetup> CheckServices(Setup& setup, bool checking, Diagnostics& diagnostics) {
  setup.file = diagnostics.file();
  setup.config = ReadConfig(diagnostics);
  if (diagnostics.failed()) return {};
  WarnOfUnused(setup.config, diagnostics);
  auto credentials = OpenCredentials(setup.config, diagnostics);
  const Trust trust = OpenTrust(setup.config, diagnostics);
  const Accounts accounts = LookUpAccounts(setup.config, diagnostics);
  setup.account = accounts.broker;
  CheckAttachment(setup.config, diagnostics);
  if (checking) {
    CheckRuntimeDir(setup.config.broker, diagnostics);
    CheckWorkerFiles(setup.config, accounts, diagnostics);
  }
  if (diagnostics.failed()) return {};
  std::vector<ServiceSetup> services;
  for (size_t i = 0; i < setup.config.services.size(); ++i)
    services.push_back(CheckService(setup, i, accounts, credentials, trust));
  std::erase_if(credentials, [](const auto& credential) { return credential.use_count() == 1; });
  setup.credentials = std::move(credentials);
  return services;
}

void Finish(std::vector<ServiceSetup> services, Setup& setup) {
  for (ServiceSetup& service : services)
    setup.services.push_back(std::make_shared<const ServiceSetup>(std::move(service)));
}

// Listeners whose service does not name their address any more.
std::vector<Listener> Leaving(const Setup* previous, const std::vector<ServiceSetup>& services) {
  std::vector<Listener> leaving;
  if (previous == nullptr) return leaving;
  for (const auto& before : previous->services) {
    const auto now = std::ranges::find(services, before->name(), &ServiceSetup::name);
    for (const Listener& listener : before->listeners) {
      const bool stays =
          now != services.end() &&
          std::ranges::count(now->config.listen, listener.address, &At<ListenAddress>::value) != 0;
      if (!stays) leaving.push_back(listener);
    }
  }
  return leaving;
}

// Its clients connect, and wait for an accept(2) that never comes.
void WarnOfUnclaimed(const Config& config, const InheritedSockets& inherited,
                     Diagnostics& diagnostics) {
  std::set<std::string> names;
  for (const auto& [name, socket] : inherited) names.insert(name);
  for (const ServiceConfig& service : config.services) {
    for (const auto& address : service.listen) {
      if (const auto* systemd = std::get_if<SystemdSocket>(&address.value))
        names.erase(systemd->name);
    }
  }
  for (const std::string& name : names) {
    diagnostics.Warning({},
                        "no service uses the socket \"" + log::Printable(name) +
                            "\" that was passed to the broker: its clients are not answered",
                        "write listen = [\"systemd:" + log::Printable(name) +
                            "\"] in a service, or take it out of the socket units");
  }
}

std::string IdentityOf(const ListenAddress& address, const SharedFd& socket) {
  return absl::StrCat(ToString(address), "#", reinterpret_cast<uintptr_t>(socket.get()));
}

}  // namespace

std::string FingerprintOf(const ServiceSetup& setup) {
  std::string text = absl::StrCat(
      static_cast<int>(setup.log_level), ",", setup.config.limits.max_signatures, ",",
      reinterpret_cast<uintptr_t>(setup.queue.get()), ",", setup.account ? setup.account->uid : 0,
      ",", setup.account ? setup.account->gid : 0);
  for (const auto& listener : setup.listeners)
    absl::StrAppend(&text, ",", IdentityOf(listener.address, listener.socket));
  for (const auto& certificate : setup.certificates)
    absl::StrAppend(&text, ",", certificate.credential->key_identity, ",",
                    certificate.credential->chain_identity);
  for (const auto& file : setup.trust) absl::StrAppend(&text, ",", file->identity);
  for (const auto& upstream : setup.upstreams)
    absl::StrAppend(&text, ",", ToString(upstream.config.address.value));
  for (const supervision::Message& message : ContentOf(setup, false, 1)) {
    const auto bytes = supervision::EncodeValues(message);
    absl::StrAppend(&text, ";", std::string(bytes.begin(), bytes.end()));
  }
  return text;
}

Setup CheckSetup(Diagnostics& diagnostics) {
  Setup setup;
  Finish(CheckServices(setup, /*checking=*/true, diagnostics), setup);
  return setup;
}

Setup OpenSetup(Diagnostics& diagnostics, const InheritedSockets& inherited,
                const Setup* previous) {
  Setup setup;
  std::vector<ServiceSetup> services = CheckServices(setup, /*checking=*/false, diagnostics);
  if (diagnostics.failed()) return setup;
  const std::vector<Listener> leaving = Leaving(previous, services);
  for (ServiceSetup& service : services) {
    const ServiceSetup* before = FindService(previous, service.name());
    std::vector<Listener> own;
    std::vector<Listener> others;
    if (before != nullptr) own = before->listeners;
    if (previous != nullptr) {
      for (const auto& other : previous->services) {
        if (other.get() != before)
          others.insert(others.end(), other->listeners.begin(), other->listeners.end());
      }
    }
    const std::vector<MissingListener> missing =
        before != nullptr ? before->missing : std::vector<MissingListener>();
    Listeners listeners = OpenListeners(service.config, inherited, own, others, leaving,
                                        previous == nullptr ? nullptr : &missing, diagnostics);
    service.listeners = std::move(listeners.open);
    service.missing = std::move(listeners.missing);
    if (before != nullptr && before->queue && !before->queue->Broken()) {
      service.queue = before->queue;
    } else {
      service.queue = OpenQueue(service.config, diagnostics);
    }
  }
  WarnOfUnclaimed(setup.config, inherited, diagnostics);
  Finish(std::move(services), setup);
  return setup;
}

}  // namespace tlsbroker::supervisor
