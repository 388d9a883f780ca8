#include "broker/supervisor/config.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "broker/supervisor/config_section.h"

namespace tlsbroker::supervisor {
namespace {

// No process table and no message of ours has room for more.
constexpr uint32_t kMaxHandshakers = 1024;
constexpr uint32_t kMaxConnections = 1'000'000;
constexpr uint32_t kMaxBacklog = 65536;
constexpr uint32_t kMaxWorkers = 1024;
constexpr uint32_t kMaxLimit = 1'000'000;
// Handshakers report what they handed off every half second.
constexpr std::chrono::seconds kMinIdleTimeout{1};
constexpr size_t kMaxAlpnName = 255;   // RFC 7301 section 3.1
constexpr size_t kMaxEntries = 65535;  // ids are 16 bits wide
constexpr size_t kMaxPins = 16;

constexpr std::string_view kAbsolute = "write it from the root, beginning with /";

template <typename T>
void Take(const std::optional<At<T>>& value, T& target) {
  if (value) target = value->value;
}

template <typename T>
void Take(const std::optional<At<T>>& value, At<T>& target) {
  if (value) target = *value;
}

class Reader {
 public:
  explicit Reader(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  Config Read(const toml::table& root) {
    Section file(root, "", diagnostics_);
    if (auto broker = file.Table("broker")) ReadBroker(*broker);
    for (auto& [name, section] : file.Tables("certificate")) ReadCertificate(name, section);
    for (auto& [name, section] : file.Tables("upstream")) ReadUpstream(name, section);
    for (auto& [name, section] : file.Tables("service")) ReadService(name, section);
    file.Finish();
    CheckWhole();
    return std::move(config_);
  }

 private:
  template <typename T>
  std::optional<T> Accept(Parsed<T> parsed, Position position) {
    if (auto* complaint = std::get_if<Complaint>(&parsed)) {
      diagnostics_.Error(position, complaint->wrong, complaint->right);
      return std::nullopt;
    }
    return std::get<T>(std::move(parsed));
  }

  void TakeDuration(Section& section, std::string_view key, std::chrono::milliseconds& target) {
    const auto text = section.String(key);
    if (!text) return;
    if (auto duration = Accept(ParseDuration(text->value), text->position)) target = *duration;
  }

  void CheckAbsolute(const At<std::string>& path) {
    if (path.value.starts_with('/')) return;
    diagnostics_.Error(path.position, "\"" + path.value + "\" is a relative path", kAbsolute);
  }

  void ReadBroker(Section& section) {
    BrokerConfig& broker = config_.broker;
    Take(section.String("runtime_dir"), broker.runtime_dir);
    CheckAbsolute(broker.runtime_dir);
    // Where the default user is missing, the section that could name another one is to blame.
    broker.user.position = section.position();
    Take(section.String("user"), broker.user);
    Take(section.Number("handshakers", 0, kMaxHandshakers), broker.handshakers);
    TakeDuration(section, "handshake_timeout", broker.handshake_timeout);
    TakeDuration(section, "drain_timeout", broker.drain_timeout);
    Take(section.Number("max_handshakes", 1, kMaxConnections), broker.max_handshakes);
    Take(section.Number("max_handshakes_per_source", 1, kMaxConnections),
         broker.max_handshakes_per_source);
    Take(section.Number("max_relayed", 1, kMaxConnections), broker.max_relayed);
    Take(section.Number("max_signatures", 1, kMaxConnections), broker.max_signatures);
    Take(section.OneOf<log::Level>("log_level", {{"error", log::Level::kError},
                                                 {"warning", log::Level::kWarning},
                                                 {"notice", log::Level::kNotice},
                                                 {"info", log::Level::kInfo},
                                                 {"debug", log::Level::kDebug}}),
         broker.log_level);
    broker.ca_file = TakeTrust(section);
    section.Finish();
  }

  std::optional<At<Source>> TakeTrust(Section& section) {
    const auto text = section.String("ca_file");
    if (!text) return std::nullopt;
    const auto source = Accept(ParseSource(text->value), text->position);
    if (!source) return std::nullopt;
    if (source->kind == Source::Kind::kUri) {
      diagnostics_.Error(text->position, "'ca_file' is a URI",
                         "a path or \"cred:NAME\" is needed; only keys have URIs");
    }
    return At<Source>{*source, text->position};
  }

  void ReadUpstream(const At<std::string>& name, Section& section) {
    UpstreamConfig upstream;
    upstream.name = name;
    if (!IsCertificateName(name.value)) {
      diagnostics_.Error(name.position, "\"" + name.value + "\" is no upstream name",
                         "1 to 64 letters, digits, -, _ and . are possible");
    }
    if (!section.Has("address")) section.Missing("address", "add address = \"192.0.2.1:443\"");
    if (const auto text = section.String("address")) {
      const auto address = Accept(ParseAddress(text->value), text->position);
      if (address) upstream.address = {*address, text->position};
    }
    if (!section.Has("name"))
      section.Missing("name", "add the name that the server's certificate has to have");
    if (const auto text = section.String("name")) {
      if (auto server = Accept(ParseServerName(text->value), text->position))
        upstream.server_name = *server;
    }
    ReadAlpn(section, upstream.alpn);
    ReadPins(section, upstream);
    if (const auto text = section.String("certificate"))
      upstream.certificate = Find(config_.certificates, "certificate", text->value, text->position);
    upstream.ca_file = TakeTrust(section);
    section.Finish();
    config_.upstreams.push_back(std::move(upstream));
  }

  void ReadPins(Section& section, UpstreamConfig& upstream) {
    const auto list = section.Strings("pin");
    if (!list) return;
    if (list->value.size() > kMaxPins) {
      diagnostics_.Error(list->position, std::to_string(list->value.size()) + " pins",
                         "1 to " + std::to_string(kMaxPins) + " are possible");
    }
    for (const auto& [text, position] : list->value) {
      if (auto pin = Accept(ParsePin(text), position)) upstream.pins.push_back(*std::move(pin));
    }
  }

  void TakeSource(Section& section, std::string_view key, At<Source>& target) {
    const auto text = section.String(key);
    if (!text) {
      if (!section.Has(key))
        section.Missing(key, "add " + std::string(key) + " = \"/path/to/file.pem\"");
      return;
    }
    if (auto source = Accept(ParseSource(text->value), text->position)) {
      target = {*source, text->position};
    }
  }

  void ReadCertificate(const At<std::string>& name, Section& section) {
    CertificateConfig certificate;
    certificate.name = name;
    if (!IsCertificateName(name.value)) {
      diagnostics_.Error(name.position, "\"" + name.value + "\" is no certificate name",
                         "1 to 64 letters, digits, -, _ and . are possible");
    }
    TakeSource(section, "chain", certificate.chain);
    TakeSource(section, "key", certificate.key);
    if (certificate.chain.value.kind == Source::Kind::kUri) {
      diagnostics_.Error(certificate.chain.position, "'chain' is a URI",
                         "a path or \"cred:NAME\" is needed; only keys have URIs");
    }
    section.Finish();
    config_.certificates.push_back(std::move(certificate));
  }

  void ReadService(const At<std::string>& name, Section& section) {
    ServiceConfig service;
    service.name = name;
    // Its socket in the runtime directory would be that of the broker itself.
    if (!IsServiceName(name.value) || name.value == "broker") {
      diagnostics_.Error(name.position, "\"" + name.value + "\" is no service name",
                         "1 to 64 of a-z, 0-9, - and _ are possible, and not \"broker\"");
    }
    ReadListen(section, service);
    ReadCertificateNames(section, service);
    Take(section.OneOf<supervision::Policy>("policy",
                                            {{"intermediate", supervision::Policy::kIntermediate},
                                             {"modern", supervision::Policy::kModern}}),
         service.policy);
    Take(section.OneOf<supervision::KtlsMode>("ktls", {{"prefer", supervision::KtlsMode::kPrefer},
                                                       {"require", supervision::KtlsMode::kRequire},
                                                       {"never", supervision::KtlsMode::kNever}}),
         service.ktls);
    Take(section.OneOf<supervision::RekeyMode>("rekey",
                                               {{"prefer", supervision::RekeyMode::kPrefer},
                                                {"require", supervision::RekeyMode::kRequire}}),
         service.rekey);
    ReadAlpn(section, service.alpn);
    service.backlog.position = section.position();
    Take(section.Number("backlog", 1, kMaxBacklog), service.backlog);
    TakeList(section, "allow_users", service.allow_users);
    TakeList(section, "allow_groups", service.allow_groups);
    ReadWrap(section, service);
    ReadNames(section, "client_certificates", config_.certificates, "certificate",
              service.client_certificates);
    ReadNames(section, "dial", config_.upstreams, "upstream", service.dial);
    if (auto worker = section.Table("worker")) service.worker = ReadWorker(*worker);
    section.Finish();
    config_.services.push_back(std::move(service));
  }

  static void TakeList(Section& section, std::string_view key,
                       std::vector<At<std::string>>& target) {
    if (auto list = section.Strings(key)) target = std::move(list->value);
  }

  void ReadListen(Section& section, ServiceConfig& service) {
    if (!section.Has("listen")) section.Missing("listen", "add listen = [\"0.0.0.0:443\"]");
    const auto list = section.Strings("listen");
    if (!list) return;
    for (const auto& [text, position] : list->value) {
      auto address = Accept(ParseListenAddress(text), position);
      if (!address) continue;
      addresses_.push_back({*address, position});
      service.listen.push_back({std::move(*address), position});
    }
  }

  // Of two that are equal the later one in the file is to blame, whatever the order of reading.
  void CheckAddressesDiffer() {
    std::ranges::sort(addresses_, {}, &At<ListenAddress>::position);
    for (auto address = addresses_.begin(); address != addresses_.end(); ++address) {
      const auto same =
          std::ranges::find(addresses_.begin(), address, address->value, &At<ListenAddress>::value);
      if (same == address) continue;
      diagnostics_.Error(address->position,
                         "\"" + ToString(address->value) + "\" is listened on twice, also at " +
                             diagnostics_.Where(same->position),
                         "each address can be in one service only");
    }
  }

  void ReadCertificateNames(Section& section, ServiceConfig& service) {
    if (!section.Has("certificates")) {
      section.Missing("certificates", "add certificates = [\"NAME\"] of a [certificate.NAME]");
    }
    ReadNames(section, "certificates", config_.certificates, "certificate", service.certificates);
  }

  // A list of sections of that kind.
  template <typename T>
  void ReadNames(Section& section, std::string_view key, const std::vector<T>& all,
                 const std::string& kind, std::vector<size_t>& indices) {
    const auto list = section.Strings(key);
    if (!list) return;
    for (const auto& [name, position] : list->value) {
      if (auto index = Find(all, kind, name, position)) indices.push_back(*index);
    }
  }

  // `kind` is that of the section which defines it.
  template <typename T>
  std::optional<size_t> Find(const std::vector<T>& all, const std::string& kind,
                             const std::string& name, Position position) {
    std::vector<std::string> names;
    for (const T& one : all) names.push_back(one.name.value);
    const auto found = std::ranges::find(names, name);
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
    const std::string closest = Closest(name, names);
    diagnostics_.Error(position, "there is no " + kind + " \"" + name + "\"",
                       closest.empty() ? "add a section [" + kind + "." + name + "]"
                                       : "did you mean \"" + closest + "\"?");
    return std::nullopt;
  }

  void ReadWrap(Section& section, ServiceConfig& service) {
    const auto list = section.Strings("wrap");
    if (!list) return;
    for (const auto& [role, position] : list->value) {
      if (role == "server") {
        service.wrap_server = true;
      } else if (role == "client") {
        service.wrap_client = true;
        service.wrap_client_position = position;
      } else {
        diagnostics_.Error(position, "\"" + role + "\" is no side of a TLS connection",
                           "\"server\" and \"client\" are possible");
      }
    }
  }

  void ReadAlpn(Section& section, std::vector<std::string>& alpn) {
    const auto list = section.Strings("alpn");
    if (!list) return;
    for (const auto& [name, position] : list->value) {
      if (name.size() > kMaxAlpnName) {
        diagnostics_.Error(position, "a protocol name of " + std::to_string(name.size()) + " bytes",
                           "at most 255 are possible");
      }
      alpn.push_back(name);
    }
  }

  WorkerConfig ReadWorker(Section& section) {
    WorkerConfig worker;
    worker.position = section.position();
    ReadWorkerCommand(section, worker);
    ReadStyle(section, worker);
    worker.user = section.String("user");
    Take(section.Number("count", 1, kMaxWorkers), worker.count);
    using StartWhen = WorkerConfig::StartWhen;
    Take(section.OneOf<StartWhen>(
             "start", {{"always", StartWhen::kAlways}, {"on-demand", StartWhen::kOnDemand}}),
         worker.start);
    ReadWorkerIdleTimeout(section, worker);
    TakeList(section, "read_only", worker.read_only);
    TakeList(section, "read_write", worker.read_write);
    for (const auto& path : worker.read_only) CheckAbsolute(path);
    for (const auto& path : worker.read_write) CheckAbsolute(path);
    Take(section.Boolean("network"), worker.network);
    using Profile = sandbox::WorkerProfile;
    Take(section.OneOf<Profile>("profile",
                                {{"default", Profile::kDefault}, {"strict", Profile::kStrict}}),
         worker.profile);
    if (auto limits = section.Table("limits")) ReadLimits(*limits, worker.limits);
    if (auto limits = section.Table("connections")) ReadConnections(*limits, worker);
    ReadDaemon(section, worker);
    if (worker.kind != WorkerConfig::Kind::kCommand && worker.profile == Profile::kStrict) {
      const char* kind = worker.kind == WorkerConfig::Kind::kExec ? "'exec'" : "'daemon'";
      diagnostics_.Error(worker.command.position, std::string(kind) + " needs to start programs",
                         "leave out profile = \"strict\"");
    }
    section.Finish();
    return worker;
  }

  void ReadDaemon(Section& section, WorkerConfig& worker) {
    const auto port = section.Number("port", 1, 65535);
    const auto direct = section.Boolean("direct");
    Take(port, worker.port);
    Take(direct, worker.direct);
    if (worker.kind != WorkerConfig::Kind::kDaemon) {
      if (!port && !direct) return;
      diagnostics_.Error(port ? port->position : direct->position,
                         "'port' and 'direct' are for 'daemon'", "leave them out");
    } else if (worker.direct && !worker.network) {
      // connect(2), to AF_UNSPEC and then to somebody, makes a client of an accepted socket, in the
      // network that the socket is in. That kernel TLS refuses the former must not be all.
      diagnostics_.Error(direct->position,
                         "a daemon with direct connections can use them to reach the network",
                         "set network = true, or leave out 'direct'");
    }
  }

  void ReadStyle(Section& section, WorkerConfig& worker) {
    const auto systemd = section.OneOf<bool>("style", {{"stdio", false}, {"systemd", true}});
    if (!systemd) return;
    worker.systemd_style = systemd->value;
    if (worker.kind == WorkerConfig::Kind::kExec) return;
    diagnostics_.Error(systemd->position, "'style' is for 'exec'", "leave it out");
  }

  void ReadWorkerIdleTimeout(Section& section, WorkerConfig& worker) {
    const auto text = section.String("idle_timeout");
    if (!text) return;
    const auto time = Accept(ParseDuration(text->value), text->position);
    if (!time) return;
    worker.idle_timeout = *time;
    if (worker.start != WorkerConfig::StartWhen::kOnDemand) {
      diagnostics_.Error(text->position, "'idle_timeout' is for workers that are started on demand",
                         "add start = \"on-demand\", or leave it out");
    } else if (*time < kMinIdleTimeout) {
      diagnostics_.Error(text->position, "\"" + text->value + "\" is too short",
                         "at least \"1s\" is needed");
    }
  }

  void ReadConnections(Section& section, WorkerConfig& worker) {
    if (worker.kind != WorkerConfig::Kind::kExec) {
      diagnostics_.Error(section.position(), "'connections' is for 'exec'",
                         "'limits' is for all workers");
    }
    ConnectionLimits& limits = worker.connections;
    Take(section.Number("max", 1, kMaxLimit), limits.max);
    Take(section.Number("max_per_source", 1, kMaxLimit), limits.max_per_source);
    ReadTime(section, "idle_timeout", limits.idle_timeout);
    ReadTime(section, "lifetime", limits.lifetime);
    TakeDuration(section, "grace", limits.grace);  // "never" would be at once
    section.Finish();
  }

  // "never" is 0.
  void ReadTime(Section& section, std::string_view key, std::chrono::milliseconds& target) {
    const auto text = section.String(key);
    if (!text) return;
    if (text->value == "never") {
      target = std::chrono::milliseconds(0);
      return;
    }
    if (const auto time = Accept(ParseDuration(text->value), text->position)) target = *time;
  }

  void ReadLimits(Section& section, sandbox::WorkerLimits& limits) {
    if (const auto text = section.String("memory")) {
      limits.memory = Accept(ParseSize(text->value), text->position);
    }
    if (const auto text = section.String("cpu")) {
      const auto time = Accept(ParseDuration(text->value), text->position);
      if (time) limits.cpu = std::max<uint64_t>(static_cast<uint64_t>(time->count()) / 1000, 1);
    }
    if (const auto count = section.Number("processes", 1, kMaxLimit))
      limits.processes = count->value;
    if (const auto count = section.Number("files", 8, kMaxLimit)) limits.files = count->value;
    section.Finish();
  }

  void ReadWorkerCommand(Section& section, WorkerConfig& worker) {
    using Kind = WorkerConfig::Kind;
    int found = 0;
    for (const auto& [key, kind] :
         {std::pair("command", Kind::kCommand), std::pair("exec", Kind::kExec),
          std::pair("daemon", Kind::kDaemon)}) {
      if (section.Has(key)) ++found;
      const auto list = section.Strings(key);
      if (!list) continue;
      worker.kind = kind;
      worker.command = {{}, list->position};
      if (!list->value.empty()) CheckAbsolute(list->value.front());
      for (const auto& word : list->value) worker.command.value.push_back(word.value);
    }
    if (found == 1) return;
    diagnostics_.Error(section.position(),
                       section.title() + (found == 0 ? " has no program" : " has several programs"),
                       "exactly one of 'command', 'exec' and 'daemon' is needed");
  }

  void CheckWhole() {
    CheckAddressesDiffer();
    if (config_.services.empty()) {
      diagnostics_.Error({}, "there is no service", "add a section [service.NAME]");
    }
    if (std::max({config_.services.size(), config_.certificates.size(), config_.upstreams.size()}) >
        kMaxEntries) {
      diagnostics_.Error({}, "too many services, certificates or upstreams",
                         "65535 of each are possible");
    }
  }

  Diagnostics& diagnostics_;
  Config config_;
  std::vector<At<ListenAddress>> addresses_;
};

}  // namespace

Config ParseConfig(std::string_view text, Diagnostics& diagnostics) {
  try {
    const toml::table root = toml::parse(text);
    return Reader(diagnostics).Read(root);
  } catch (const toml::parse_error& error) {
    diagnostics.Error(PositionOf(error.source()), error.description(), "TOML 1.0 is needed");
    return {};
  }
}

Config ReadConfig(Diagnostics& diagnostics) {
  std::ifstream file(diagnostics.file());
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.fail()) {
    diagnostics.Error({}, std::string("cannot be read: ") + std::strerror(errno),
                      "a readable TOML file is needed");
    return {};
  }
  return ParseConfig(text.str(), diagnostics);
}

}  // namespace tlsbroker::supervisor
