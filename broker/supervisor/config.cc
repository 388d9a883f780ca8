// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/config.h"

#include <algorithm>
#include <map>

#include "broker/sandbox/private_tmp.h"
#include "broker/supervisor/config_files.h"
#include "broker/supervisor/config_section.h"
#include "broker/support/closest.h"

namespace tlsbroker::supervisor {
namespace {

// Neither a process table nor a message of ours has room for more.
constexpr uint32_t kMaxHandshakers = 1024;
constexpr uint32_t kMaxConnections = 1'000'000;
constexpr uint32_t kMaxBacklog = 65536;
constexpr uint32_t kMaxWorkers = 1024;
constexpr uint32_t kMaxLimit = 1'000'000;
// Handshakers report what they handed off every half second.
constexpr std::chrono::seconds kMinIdleTimeout{1};
constexpr uint32_t kMaxTickets = 2;
constexpr std::chrono::seconds kMinKeepalive{10};
constexpr std::chrono::hours kMaxKeepalive{12};  // half of it is TCP_KEEPIDLE, at most 32,767 s
// The message that tells it has room for 49 days.
constexpr std::chrono::hours kLongestDrain = 30 * kDay;
constexpr size_t kMaxAlpnName = 255;   // RFC 7301 section 3.1
constexpr size_t kMaxEntries = 65535;  // ids are 16 bits wide
constexpr size_t kMaxPins = 16;

constexpr std::string_view kAbsolute = "write it from the root, beginning with /";

// As a part of a table's title.
std::string InTitle(const std::string& name) {
  return name.find('.') == std::string::npos ? name : "\"" + name + "\"";
}

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
    for (auto& [name, section] : file.Tables("certificate")) {
      if (!IsPartOfName(name, section)) ReadCertificate(name, section);
    }
    for (auto& [name, section] : file.Tables("upstream")) {
      if (!IsPartOfName(name, section)) ReadUpstream(name, section);
    }
    for (auto& [name, section] : file.Tables("service")) ReadService(name, section);
    file.Finish();
    CheckWhole();
    return std::move(config_);
  }

 private:
  // TOML takes [certificate.www.example.com] for a table "com" in "example" in "www".
  bool IsPartOfName(const At<std::string>& name, const Section& section) {
    const std::string rest = section.NameOfTables();
    if (rest.empty()) return false;
    const std::string kind = section.title().substr(0, section.title().find('.') + 1);
    diagnostics_.Error(name.position, kind + name.value + rest + "] needs quotes for its dots",
                       "write " + kind + "\"" + name.value + rest + "\"]");
    return true;
  }

  template <typename T>
  std::optional<T> Accept(Parsed<T> parsed, const Position& position) {
    if (auto* complaint = std::get_if<Complaint>(&parsed)) {
      diagnostics_.Error(position, complaint->wrong, complaint->right);
      return std::nullopt;
    }
    return std::get<T>(std::move(parsed));
  }

  static std::optional<At<std::string>> DurationText(Section& section, std::string_view key) {
    return section.String(key, "a duration, a string such as \"5s\",");
  }

  void TakeDuration(Section& section, std::string_view key, std::chrono::milliseconds& target,
                    std::chrono::hours longest = kLongestDuration) {
    const auto text = DurationText(section, key);
    if (!text) return;
    if (auto duration = Accept(ParseDuration(text->value, longest), text->position))
      target = *duration;
  }

  void CheckAbsolute(const At<std::string>& path) {
    if (path.value.starts_with('/')) return;
    diagnostics_.Error(path.position, "\"" + path.value + "\" is a relative path", kAbsolute);
  }

  void ReadBroker(Section& section) {
    BrokerConfig& broker = config_.broker;
    Take(section.String("runtime_dir"), broker.runtime_dir);
    CheckAbsolute(broker.runtime_dir);
    // If the default user is missing, the section that could name another one is to blame.
    broker.user.position = section.position();
    Take(section.String("user"), broker.user);
    if (section.Has("handshakers")) RefuseHandshakers(section);
    TakeDuration(section, "drain_timeout", broker.drain_timeout, kLongestDrain);
    ReadServiceLimits(section, broker.limits);
    Take(section.OneOf<log::Level>("log_level", {{"error", log::Level::kError},
                                                 {"warning", log::Level::kWarning},
                                                 {"notice", log::Level::kNotice},
                                                 {"info", log::Level::kInfo},
                                                 {"debug", log::Level::kDebug}}),
         broker.log_level);
    broker.ca_file = TakeTrust(section);
    section.Finish();
  }

  // Says what to write instead, for configurations that still have this key.
  void RefuseHandshakers(Section& section) {
    const At<int64_t> number = section.IntegerOr("handshakers", 1);
    const int64_t max = std::clamp<int64_t>(number.value, 1, kMaxHandshakers);
    diagnostics_.Error(number.position, "'handshakers' is no key of [broker] any more",
                       "each service has its own: leave it out, or write handshakers = { max = " +
                           std::to_string(max) + " } in [service.NAME]");
  }

  // In [broker] these are the defaults.
  void ReadServiceLimits(Section& section, ServiceLimits& limits) {
    TakeDuration(section, "handshake_timeout", limits.handshake_timeout, kDay);
    for (const auto& [key, limit] :
         {std::pair("max_handshakes", &ServiceLimits::max_handshakes),
          std::pair("max_handshakes_per_source", &ServiceLimits::max_handshakes_per_source),
          std::pair("max_relayed", &ServiceLimits::max_relayed),
          std::pair("max_relayed_per_source", &ServiceLimits::max_relayed_per_source),
          std::pair("max_signatures", &ServiceLimits::max_signatures)}) {
      Take(section.Number(key, 1, kMaxConnections), limits.*limit);
    }
  }

  std::optional<At<Source>> TakeTrust(Section& section) { return TakeFile(section, "ca_file"); }

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

  std::optional<At<Source>> TakeSource(Section& section, std::string_view key) {
    const auto text = section.String(key);
    if (!text) return std::nullopt;
    const auto source = Accept(ParseSource(text->value), text->position);
    if (!source) return std::nullopt;
    return At<Source>{*source, text->position};
  }

  // A source that cannot be a URI.
  std::optional<At<Source>> TakeFile(Section& section, std::string_view key) {
    auto source = TakeSource(section, key);
    if (!source || source->value.kind != Source::Kind::kUri) return source;
    diagnostics_.Error(source->position, "'" + std::string(key) + "' is a URI",
                       "a path or \"cred:NAME\" is needed; only keys have URIs");
    return std::nullopt;
  }

  // Chain and key, in two files or in one.
  void TakeChainAndKey(Section& section, CertificateConfig& certificate) {
    const auto chain = TakeFile(section, "chain");
    const auto key = TakeSource(section, "key");
    const auto pem = TakeFile(section, "pem");
    if (chain) certificate.chain = *chain;
    if (key) certificate.key = *key;
    certificate.one_file = section.Has("pem");
    for (const std::string_view name : {"chain", "key"}) {
      if (section.Has(name) != certificate.one_file) continue;
      if (!certificate.one_file) {
        section.Missing(name, "add " + std::string(name) + " = \"/path/to/file.pem\"");
        continue;
      }
      const auto& value = name == "chain" ? chain : key;
      diagnostics_.Error(value ? value->position : section.position(),
                         "'" + std::string(name) + "' is given, and 'pem', too",
                         "'pem' is for one file with both: leave out the one or the other");
    }
    if (certificate.one_file && pem) certificate.chain = certificate.key = *pem;
  }

  void ReadCertificate(const At<std::string>& name, Section& section) {
    CertificateConfig certificate;
    certificate.name = name;
    if (!IsCertificateName(name.value)) {
      diagnostics_.Error(name.position, "\"" + name.value + "\" is no certificate name",
                         "1 to 64 letters, digits, -, _ and . are possible");
    }
    TakeChainAndKey(section, certificate);
    certificate.passphrase = TakeFile(section, "passphrase");
    section.Finish();
    config_.certificates.push_back(std::move(certificate));
  }

  void ReadService(const At<std::string>& name, Section& section) {
    ServiceConfig service;
    service.name = name;
    // "broker" is refused: the service's socket in the runtime directory would be that of the
    // broker itself.
    if (!IsServiceName(name.value) || name.value == "broker") {
      diagnostics_.Error(name.position, "\"" + name.value + "\" is no service name",
                         "1 to 64 of a-z, 0-9, - and _ are possible, and not \"broker\"");
    }
    ReadListen(section, service);
    ReadCertificateNames(section, service);
    Take(section.OneOf<supervision::Policy>("policy",
                                            {{"intermediate", supervision::Policy::kIntermediate},
                                             {"modern", supervision::Policy::kModern},
                                             {"tls12", supervision::Policy::kTls12}}),
         service.terms.policy);
    Take(section.OneOf<supervision::KtlsMode>("ktls", {{"prefer", supervision::KtlsMode::kPrefer},
                                                       {"require", supervision::KtlsMode::kRequire},
                                                       {"never", supervision::KtlsMode::kNever}}),
         service.terms.ktls);
    Take(section.OneOf<supervision::RekeyMode>("rekey",
                                               {{"prefer", supervision::RekeyMode::kPrefer},
                                                {"require", supervision::RekeyMode::kRequire}}),
         service.terms.rekey);
    ReadAlpn(section, service.terms.alpn);
    if (const auto tickets = section.Number("tickets", 0, kMaxTickets))
      service.terms.tickets = tickets->value;
    ReadKeepalive(section, service.terms.keepalive_s);
    Take(section.Boolean("freebind"), service.freebind);
    service.backlog.position = section.position();
    Take(section.Number("backlog", 1, kMaxBacklog), service.backlog);
    service.limits = config_.broker.limits;
    ReadServiceLimits(section, service.limits);
    ReadHandshakers(section, service);
    ReadStart(section, service);
    service.user = section.String("user");
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

  // Of two equal addresses the one later in the file is reported, whatever the order of reading.
  void CheckAddressesDiffer() {
    std::ranges::sort(addresses_, {}, &At<ListenAddress>::position);
    std::map<std::string, std::vector<const At<ListenAddress>*>> of_port;
    for (const auto& address : addresses_) {
      auto& before = of_port[PortOf(address.value)];
      const auto same = std::ranges::find_if(
          before, [&address](const auto* other) { return Overlap(address.value, other->value); });
      if (same != before.end()) ReportOverlap(address, **same);
      before.push_back(&address);
    }
  }

  void ReportOverlap(const At<ListenAddress>& address, const At<ListenAddress>& other) {
    const std::string where = diagnostics_.Where(other.position);
    const std::string text = "\"" + ToString(address.value) + "\"";
    if (address.value == other.value) {
      diagnostics_.Error(address.position, text + " is listened on twice, also at " + where,
                         "each address can be in one service only");
    } else {
      diagnostics_.Error(
          address.position, text + " overlaps with \"" + ToString(other.value) + "\" at " + where,
          "an address that stands for all of the machine leaves none of that port for others");
    }
  }

  void ReadCertificateNames(Section& section, ServiceConfig& service) {
    if (!section.Has("certificates")) {
      section.Missing("certificates", "add certificates = [\"NAME\"] of a [certificate.NAME]");
    }
    ReadNames(section, "certificates", config_.certificates, "certificate", service.certificates);
  }

  // Reads a list of names of sections of that kind.
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
                             const std::string& name, const Position& position) {
    std::vector<std::string> names;
    for (const T& one : all) names.push_back(one.name.value);
    const auto found = std::ranges::find(names, name);
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
    const std::string closest = Closest(name, names);
    diagnostics_.Error(position, "there is no " + kind + " \"" + name + "\"",
                       closest.empty() ? "add a section [" + kind + "." + InTitle(name) + "]"
                                       : "did you mean \"" + closest + "\"?");
    return std::nullopt;
  }

  void ReadWrap(Section& section, ServiceConfig& service) {
    const auto list = section.Strings("wrap");
    if (!list) return;
    for (const auto& [role, position] : list->value) {
      if (role == "server") {
        service.terms.wrap_server = true;
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
    Take(section.OneOf<StartWhen>(
             "start", {{"always", StartWhen::kAlways}, {"on-demand", StartWhen::kOnDemand}}),
         worker.start);
    ReadIdleTimeout(section, worker.start, "workers", worker.idle_timeout);
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
    ReadEnvironment(section, worker);
    worker.directory = section.String("directory");
    if (worker.directory) CheckAbsolute(*worker.directory);
    ReadPrivateTmp(section, worker);
    Take(section.Boolean("core_dumps"), worker.core_dumps);
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

  void ReadEnvironment(Section& section, WorkerConfig& worker) {
    for (const auto& [name, value] : section.Texts("environment")) {
      if (!IsVariableName(name.value)) {
        diagnostics_.Error(name.position, "\"" + name.value + "\" is no name of a variable",
                           "letters, digits and _ are possible, and no digit in front");
      } else if (IsReservedVariable(name.value, worker.kind == WorkerConfig::Kind::kExec)) {
        diagnostics_.Error(name.position, "the broker sets \"" + name.value + "\" itself",
                           "leave it out");
      }
      worker.environment.push_back(name.value + "=" + value);
    }
  }

  // Who lists /tmp or /var/tmp means those of the machine.
  void ReadPrivateTmp(Section& section, WorkerConfig& worker) {
    const auto is_temporary = [](const At<std::string>& path) {
      const std::string_view name =
          std::string_view(path.value).substr(0, path.value.find_last_not_of('/') + 1);
      return std::ranges::find(sandbox::kTemporary, name) != std::end(sandbox::kTemporary);
    };
    const auto wanted = section.Boolean("private_tmp");
    if (wanted) worker.private_tmp = wanted->value;
    for (const auto* paths : {&worker.read_only, &worker.read_write}) {
      const auto listed = std::ranges::find_if(*paths, is_temporary);
      if (listed == paths->end()) continue;
      worker.private_tmp = false;
      if (!wanted || !wanted->value) continue;
      diagnostics_.Error(listed->position,
                         "\"" + listed->value + "\" is the machine's, and private_tmp = true",
                         "leave out one of them");
    }
    if (worker.private_tmp && worker.directory) CheckIsThere(*worker.directory, worker);
  }

  // The worker's own /tmp has nothing of the machine's but what leads to listed paths.
  void CheckIsThere(const At<std::string>& directory, const WorkerConfig& worker) {
    const auto is_below = [](std::string_view path, std::string_view above) {
      while (above.ends_with('/')) above.remove_suffix(1);
      return path.starts_with(above) && (path.size() == above.size() || path[above.size()] == '/');
    };
    const auto hidden = [&](const char* temporary) {
      return is_below(directory.value, temporary) && !is_below(temporary, directory.value);
    };
    const auto leads_there = [&](const At<std::string>& path) {
      return is_below(directory.value, path.value) || is_below(path.value, directory.value);
    };
    if (std::ranges::none_of(sandbox::kTemporary, hidden) ||
        std::ranges::any_of(worker.read_only, leads_there) ||
        std::ranges::any_of(worker.read_write, leads_there))
      return;
    diagnostics_.Error(directory.position,
                       "\"" + directory.value + "\" is not in the worker's own /tmp",
                       "name it in 'read_only' or 'read_write', or set private_tmp = false");
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
      // connect(2), to AF_UNSPEC and then to somebody, turns an accepted socket into a client, in
      // the network namespace of the socket. Kernel TLS refuses the former, but that must not be
      // the only protection.
      diagnostics_.Error(direct->position,
                         "a daemon with direct connections can use them to reach the network",
                         "set network = true, or leave out 'direct'");
    }
  }

  void ReadStyle(Section& section, WorkerConfig& worker) {
    const auto style = section.OneOf<std::string>(
        "style", {{"stdio", "stdio"}, {"socket", "socket"}, {"systemd", "systemd"}});
    if (!style) return;
    worker.style = style->value;
    if (worker.kind == WorkerConfig::Kind::kExec) return;
    diagnostics_.Error(style->position, "'style' is for 'exec'", "leave it out");
  }

  void ReadHandshakers(Section& section, ServiceConfig& service) {
    auto range = section.Table("handshakers");
    if (!range) return;
    Take(range->Number("min", 1, kMaxHandshakers), service.min_handshakers);
    const auto max = range->Number("max", 1, kMaxHandshakers);
    Take(max, service.max_handshakers);
    if (max && service.max_handshakers < service.min_handshakers) {
      diagnostics_.Error(max->position, "'max' is less than 'min'",
                         "at least " + std::to_string(service.min_handshakers) + " is needed");
    }
    range->Finish();
  }

  void ReadStart(Section& section, ServiceConfig& service) {
    Take(section.OneOf<StartWhen>(
             "start", {{"always", StartWhen::kAlways}, {"on-demand", StartWhen::kOnDemand}}),
         service.start);
    ReadIdleTimeout(section, service.start, "services", service.idle_timeout);
  }

  // The key is that of a service, or of its worker.
  void ReadIdleTimeout(Section& section, StartWhen start, const char* of,
                       std::chrono::milliseconds& target) {
    const auto text = DurationText(section, "idle_timeout");
    if (!text) return;
    const auto time = Accept(ParseDuration(text->value), text->position);
    if (!time) return;
    target = *time;
    if (start != StartWhen::kOnDemand) {
      diagnostics_.Error(text->position,
                         std::string("'idle_timeout' is for ") + of + " that are started on demand",
                         "add start = \"on-demand\", or leave it out");
    } else if (*time < kMinIdleTimeout) {
      diagnostics_.Error(text->position, "\"" + text->value + "\" is too short",
                         "at least \"1s\" is needed");
    }
  }

  void ReadKeepalive(Section& section, uint32_t& target) {
    const auto text = section.String("keepalive");
    if (!text) return;
    const auto time = TimeOrNever(*text);
    if (!time) return;
    if (time->count() != 0 && (*time < kMinKeepalive || *time > kMaxKeepalive)) {
      diagnostics_.Error(text->position, "\"" + text->value + "\" is out of range",
                         "\"10s\" to \"12h\" is possible, or \"never\"");
    }
    target = static_cast<uint32_t>(std::chrono::ceil<std::chrono::seconds>(*time).count());
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
    TakeDuration(section, "grace", limits.grace);  // "never" would mean at once
    section.Finish();
  }

  // "never" is 0.
  std::optional<std::chrono::milliseconds> TimeOrNever(const At<std::string>& text) {
    if (text.value == "never") return std::chrono::milliseconds(0);
    return Accept(ParseDuration(text.value), text.position);
  }

  void ReadTime(Section& section, std::string_view key, std::chrono::milliseconds& target) {
    const auto text = DurationText(section, key);
    if (!text) return;
    if (const auto time = TimeOrNever(*text)) target = *time;
  }

  void ReadLimits(Section& section, sandbox::WorkerLimits& limits) {
    if (const auto text = section.String("memory")) {
      limits.memory = Accept(ParseSize(text->value), text->position);
    }
    if (const auto text = DurationText(section, "cpu")) {
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
      const auto list = section.Command(key);
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
      // As the package installs it: an administrator starts the broker, and then adds services.
      diagnostics_.Warning({}, "there is no service, nothing is served",
                           "add a section [service.NAME]");
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
  const toml::table root = ParseTables(text, /*file=*/"", diagnostics);
  return diagnostics.failed() ? Config() : Reader(diagnostics).Read(root);
}

// A file that cannot be parsed, or whose variables are missing, would cause errors in others.
Config ReadConfig(Diagnostics& diagnostics) {
  std::vector<std::string> files;
  const toml::table root = ReadTables(files, diagnostics);
  if (diagnostics.failed()) return {};
  Config config = Reader(diagnostics).Read(root);
  config.files = std::move(files);
  return config;
}

}  // namespace tlsbroker::supervisor
