// SPDX-License-Identifier: Apache-2.0
// The configuration as plain structs, and its reader. Every value that can turn out
// wrong later (a file, a user, an address in use) carries its place in the files. Runs in the
// supervisor, the only process that reads them; the administrator who wrote it is trusted.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONFIG_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONFIG_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "broker/sandbox/worker_policy.h"
#include "broker/supervisor/config_values.h"
#include "broker/supervisor/diagnostics.h"
#include "broker/support/log.h"
#include "protocol/modes.h"

namespace tlsbroker::supervisor {

// How much strangers may use of one service. [broker] has the defaults.
// A handshaker gets its part of these in supervision::Limits, a keyholder max_signatures in
// supervision::HandshakerChannel.
struct ServiceLimits {
  std::chrono::milliseconds handshake_timeout{5'000};
  uint32_t max_handshakes = 4096;  // under way at once
  uint32_t max_handshakes_per_source = 256;
  uint32_t max_relayed = 8192;
  uint32_t max_relayed_per_source = 2048;
  uint32_t max_signatures = 10'000;  // a second, for each handshaker
};

struct BrokerConfig {
  At<std::string> runtime_dir{"/run/tlsbroker", {}};
  At<std::string> user{"tlsbroker", {}};
  std::chrono::milliseconds drain_timeout{30'000};
  ServiceLimits limits;
  log::Level log_level = log::Level::kInfo;
  std::optional<At<Source>> ca_file;  // never a URI; else the system's
};

struct CertificateConfig {
  At<std::string> name;
  At<Source> chain;  // never a URI
  At<Source> key;
  bool one_file = false;  // `pem`: both are in the same file, which is in `chain` and `key`
  std::optional<At<Source>> passphrase;  // never a URI
};

// A server that workers may have dialled.
struct UpstreamConfig {
  At<std::string> name;
  At<handoff::Endpoint> address;
  std::string server_name;
  std::vector<std::string> alpn;
  std::vector<supervision::Pin> pins;  // none: any key
  std::optional<size_t> certificate;   // index into Config::certificates
  std::optional<At<Source>> ca_file;   // else the broker's
};

// The settings of a worker that runs a program for each connection.
struct ConnectionLimits {
  uint32_t max = 128;
  uint32_t max_per_source = 0;                                     // 0: as many as `max`
  std::chrono::milliseconds idle_timeout = std::chrono::hours(1);  // 0: none
  std::chrono::milliseconds lifetime{0};                           // 0: none
  std::chrono::milliseconds grace = std::chrono::seconds(5);
};

enum class StartWhen { kAlways, kOnDemand };

struct WorkerConfig {
  enum class Kind { kCommand, kExec, kDaemon };
  Kind kind = Kind::kCommand;
  At<std::vector<std::string>> command;
  std::optional<At<std::string>> user;
  Position position;
  uint32_t count = 1;
  StartWhen start = StartWhen::kAlways;
  std::chrono::milliseconds idle_timeout{0};  // kOnDemand; 0: none
  std::vector<At<std::string>> read_only;
  std::vector<At<std::string>> read_write;
  bool network = false;
  sandbox::WorkerProfile profile = sandbox::WorkerProfile::kDefault;
  sandbox::WorkerLimits limits;
  std::vector<std::string> environment;  // "NAME=value"
  std::optional<At<std::string>> directory;
  bool private_tmp = true;
  bool core_dumps = false;
  ConnectionLimits connections;  // kExec
  std::string style = "stdio";   // kExec: how its program gets the connection
  uint32_t port = 0;             // kDaemon: its listener that stands for the service; 0: the first
  bool direct = false;           // kDaemon
};

struct ServiceConfig {
  At<std::string> name;
  std::vector<At<ListenAddress>> listen;
  std::vector<size_t> certificates;  // indices into Config::certificates; the first is the default
  supervision::ServiceTerms terms;
  bool freebind = false;
  At<uint32_t> backlog{256, {}};
  ServiceLimits limits;
  uint32_t min_handshakers = 1;
  uint32_t max_handshakers = 0;                                      // 0: one per CPU
  StartWhen start = StartWhen::kAlways;                              // of keyholder and handshakers
  std::chrono::milliseconds idle_timeout = std::chrono::minutes(5);  // kOnDemand
  std::optional<At<std::string>> user;  // of keyholder, handshakers, porter
  std::vector<At<std::string>> allow_users;
  std::vector<At<std::string>> allow_groups;
  bool wrap_client = false;
  Position wrap_client_position;
  std::vector<size_t> client_certificates;  // indices into Config::certificates
  std::vector<size_t> dial;                 // indices into Config::upstreams
  std::optional<WorkerConfig> worker;
};

struct Config {
  std::vector<std::string> files;  // that it was read from, in this order
  BrokerConfig broker;
  std::vector<CertificateConfig> certificates;
  std::vector<UpstreamConfig> upstreams;
  std::vector<ServiceConfig> services;
};

// Does all checks for which the text alone is enough. What is wrong goes to `diagnostics`; the
// result is to be used only if that has not failed.
Config ParseConfig(std::string_view text, Diagnostics& diagnostics);

// The same for the file that `diagnostics` names, and those in conf.d beside it.
Config ReadConfig(Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONFIG_H_
