// SPDX-License-Identifier: Apache-2.0
// Everything that one configuration names, opened and looked up: what the services' processes and
// workers are started from. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SETUP_H_
#define TLSBROKER_BROKER_SUPERVISOR_SETUP_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/supervisor/accounts.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/credentials.h"
#include "broker/supervisor/listeners.h"
#include "broker/supervisor/queue.h"
#include "broker/supervisor/upstreams.h"

namespace tlsbroker::supervisor {

// What one service is made of, and nothing of any other: its own part of the configuration with all
// that it refers to. Certificates and upstreams are numbered here, from 0, as its processes know
// them.
struct ServiceSetup {
  struct Certificate {
    CertificateConfig config;
    std::shared_ptr<const Credential> credential;
  };
  struct Upstream {
    UpstreamConfig config;
    std::optional<uint16_t> certificate;
    uint16_t trust = 0;
  };

  std::string file;  // of the configuration
  ServiceConfig config;
  log::Level log_level = log::Level::kInfo;
  std::chrono::milliseconds drain_timeout{0};
  std::string runtime_dir;
  std::optional<Account> account;  // of keyholder, handshakers, porter; none without root
  std::optional<Account> worker_account;
  std::vector<Certificate> certificates;
  std::vector<uint16_t> server_certificates;  // the first is the default
  std::vector<uint16_t> client_certificates;  // that workers may wrap with
  std::vector<Upstream> upstreams;
  std::vector<std::shared_ptr<const TrustFile>> trust;
  std::optional<uint16_t> wrap_trust;
  std::vector<Listener> listeners;
  std::vector<MissingListener> missing;  // that are waited for
  std::shared_ptr<Queue> queue;
  uint32_t max_handshakers = 1;  // as configured, or one per CPU

  const std::string& name() const { return config.name.value; }
};

// Equal for two setups whose keyholders and handshakers would be the same, so that there is no
// reason to replace those that run. A file's identity and times stand for the private key in it.
std::string FingerprintOf(const ServiceSetup& setup);

struct Setup {
  std::string file;
  Config config;
  std::optional<Account> account;  // of what belongs to no service, and loggers; none without root
  std::vector<std::shared_ptr<const ServiceSetup>> services;
  // Those that a service uses; the services have them, too. What is in them has to be found out
  // before anything is started from the setup (inspections.h).
  std::vector<std::shared_ptr<Credential>> credentials;
};

// Opens all but listeners and queues: what --check looks at. Complaints go to `diagnostics`; the
// result is for use only if that has not failed.
Setup CheckSetup(Diagnostics& diagnostics);

// Opens everything. Listeners and queues of `previous`, which may be null, go on in the new setup.
// Nothing of `previous` is changed if it fails.
Setup OpenSetup(Diagnostics& diagnostics, const InheritedSockets& inherited, const Setup* previous);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SETUP_H_
