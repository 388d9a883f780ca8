#include "broker/supervisor/status_report.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/worker_policy.h"

namespace tlsbroker::supervisor {
namespace {

using nlohmann::ordered_json;
using SystemClock = std::chrono::system_clock;

int64_t Seconds(SystemClock::time_point time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

int64_t SecondsSince(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - time).count();
}

ordered_json OrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json Counters(const supervision::Counters& counters) {
  return {{"accepted", counters.accepted},
          {"handshakes_full", counters.handshakes_full},
          {"handshakes_resumed", counters.handshakes_resumed},
          {"handshakes_failed", counters.handshakes_failed},
          {"handshakes_timed_out", counters.handshakes_timed_out},
          {"handshakes_active", counters.handshakes_active},
          {"refused_total_limit", counters.refused_total_limit},
          {"refused_source_limit", counters.refused_source_limit},
          {"refused_relay_limit", counters.refused_relay_limit},
          {"refused_ktls_required", counters.refused_ktls_required},
          {"handed_off_direct", counters.handed_off_direct},
          {"handed_off_relay", counters.handed_off_relay},
          {"relay_active", counters.relay_active},
          {"ktls_install_failed", counters.ktls_install_failed},
          {"queue_waits", counters.queue_waits},
          {"sign_failed", counters.sign_failed},
          {"rekeyed", counters.rekeyed},
          {"rekey_refused", counters.rekey_refused},
          {"opened", counters.opened},
          {"open_failed", counters.open_failed}};
}

void AddProcesses(ordered_json& list, const Generation& generation) {
  for (const auto& process : generation.processes()) {
    list.push_back({{"role", process.name},
                    {"generation", generation.number()},
                    {"pid", process.pid},
                    {"state", process.state}});
  }
}

ordered_json Processes(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  list.push_back({{"role", "supervisor"},
                  {"generation", nullptr},
                  {"pid", getpid()},
                  {"state", source.state}});
  if (source.current != nullptr) AddProcesses(list, *source.current);
  for (const auto& generation : source.retired) AddProcesses(list, *generation);
  return list;
}

const char* KtlsModeName(supervision::KtlsMode mode) {
  switch (mode) {
    case supervision::KtlsMode::kPrefer:
      return "prefer";
    case supervision::KtlsMode::kRequire:
      return "require";
    case supervision::KtlsMode::kNever:
      return "never";
  }
  return "";
}

ordered_json Worker(const WorkerPool& pool) {
  ordered_json running = ordered_json::array();
  for (const auto& worker : pool.running()) {
    running.push_back({{"pid", worker.pid},
                       {"seconds", SecondsSince(worker.started)},
                       {"draining", worker.draining}});
  }
  const WorkerSpec& spec = pool.spec();
  return {{"command", spec.command},
          {"start", spec.on_demand ? "on-demand" : "always"},
          {"count", spec.count},
          {"running", std::move(running)},
          {"restarts", pool.restarts()}};
}

ordered_json Attached(const AttachPoint& point) {
  ordered_json list = ordered_json::array();
  for (const auto& [number, peer] : point.attached()) {
    list.push_back({{"pid", peer.pid}, {"uid", peer.uid}});
  }
  return list;
}

ordered_json Service(const StatusSource& source, size_t index) {
  const ServiceConfig& config = source.setup.config.services[index];
  const std::string& name = config.name.value;
  ordered_json listen = ordered_json::array();
  for (const auto& address : config.listen) listen.push_back(ToString(address.value));
  ordered_json certificates = ordered_json::array();
  for (const size_t certificate : config.certificates) {
    certificates.push_back(source.setup.config.certificates[certificate].name.value);
  }
  supervision::ServiceCounters counters;
  if (source.current != nullptr)
    counters = source.current->service_counters(static_cast<uint16_t>(index));
  const Queue& queue = *source.setup.queues[index];
  const auto pool = source.pools.find(name);
  const auto point = source.attach_points.find(name);
  return {{"name", name},
          {"listen", std::move(listen)},
          {"certificates", std::move(certificates)},
          {"ktls", KtlsModeName(config.ktls)},
          {"direct", counters.direct},
          {"relay", counters.relay},
          {"last_reason", OrNull(counters.last_reason)},
          {"queue", {{"waiting", queue.waiting()}, {"capacity", queue.capacity()}}},
          {"worker", pool == source.pools.end() ? ordered_json() : Worker(*pool->second)},
          {"attached",
           point == source.attach_points.end() ? ordered_json() : Attached(*point->second)}};
}

ordered_json Services(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < source.setup.config.services.size(); ++i) {
    list.push_back(Service(source, i));
  }
  return list;
}

ordered_json Certificates(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  if (source.current == nullptr) return list;
  const auto& certificates = source.setup.config.certificates;
  const int64_t now = Seconds(SystemClock::now());
  for (const auto& expiry : source.current->facts().expiries) {
    if (expiry.certificate_id >= certificates.size()) continue;
    const auto end = static_cast<int64_t>(expiry.not_after);
    list.push_back({{"name", certificates[expiry.certificate_id].name.value},
                    {"not_after", end},
                    {"days_left", (end - now) / 86'400}});
  }
  return list;
}

ordered_json KernelSuites(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  if (source.current == nullptr) return list;
  for (const auto& suite : source.current->facts().kernel_suites) {
    list.push_back({{"suite", suite.name}, {"reason", OrNull(suite.reason)}});
  }
  return list;
}

void AddMissing(ordered_json& list, const std::string& who, const sandbox::MissingParts& missing) {
  for (const std::string& part : missing.parts()) list.push_back({{"who", who}, {"what", part}});
}

// What the confinement lacks on this machine, by process.
ordered_json Missing(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  AddMissing(list, "keyholder, handshakers", sandbox::MissingInBrokerProcess(source.machine));
  for (const auto& [name, pool] : source.pools) {
    AddMissing(list, "worker of " + name, sandbox::MissingInWorker(source.machine));
  }
  return list;
}

ordered_json Reload(const std::optional<LastReload>& reload) {
  if (!reload) return nullptr;
  return {{"number", reload->number},
          {"time", Seconds(reload->at)},
          {"ok", reload->errors.empty()},
          {"errors", reload->errors}};
}

}  // namespace

std::string StatusReport(const StatusSource& source) {
  const auto now = SystemClock::now();
  const bool serves = source.current != nullptr;
  const ordered_json report = {
      {"version", TLSBROKER_VERSION},
      {"config", source.setup.file},
      {"state", source.state},
      {"started", Seconds(source.started)},
      {"uptime_seconds", Seconds(now) - Seconds(source.started)},
      {"generation", serves ? ordered_json(source.current->number()) : ordered_json()},
      {"reloads_begun", source.reloads_begun},
      {"last_reload", Reload(source.last_reload)},
      {"processes", Processes(source)},
      {"services", Services(source)},
      {"certificates", Certificates(source)},
      {"counters", Counters(serves ? source.current->counters() : supervision::Counters())},
      {"kernel_tls", KernelSuites(source)},
      {"confinement_missing", Missing(source)},
  };
  // Texts of a handshaker need not be UTF-8.
  return report.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace tlsbroker::supervisor
