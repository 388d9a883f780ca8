// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/status_report.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/worker_policy.h"
#include "broker/supervisor/counters.h"
#include "protocol/counters.h"
#include "protocol/modes.h"

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
  ordered_json values;
  for (const supervision::CounterRow& row : supervision::kCounters)
    values[row.name] = counters.*row.value;
  return values;
}

ordered_json OrNull(const std::chrono::milliseconds time) {
  return time.count() == 0 ? ordered_json(nullptr) : ordered_json(time.count());
}

void AddProcess(ordered_json& list, const RoleProcess& process) {
  const uint32_t generation = process.spec().generation;
  list.push_back({{"role", process.spec().role},
                  {"service", OrNull(process.spec().service)},
                  {"generation", generation == 0 ? ordered_json() : ordered_json(generation)},
                  {"pid", process.pid()},
                  {"state", process.state()},
                  {"silent_ms", OrNull(process.hanging())}});
}

void AddProcesses(ordered_json& list, const Porter& porter) {
  for (const auto& process : porter.processes()) {
    if (process->pid() == 0 || (process->gone() && !process->left_behind())) continue;
    AddProcess(list, *process);
  }
}

void AddProcesses(ordered_json& list, const ServiceBroker& service) {
  for (const auto& process : service.processes()) AddProcess(list, *process);
  for (const auto& porter : service.porters()) AddProcesses(list, *porter);
}

ordered_json Processes(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  list.push_back({{"role", "supervisor"},
                  {"service", nullptr},
                  {"generation", nullptr},
                  {"pid", getpid()},
                  {"state", source.state},
                  {"silent_ms", nullptr}});
  for (const auto& [name, service] : source.services) AddProcesses(list, *service);
  for (const auto& service : source.old_services) AddProcesses(list, *service);
  if (source.status_porter != nullptr) AddProcesses(list, *source.status_porter);
  for (const auto& process : source.loggers) AddProcess(list, *process);
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
  for (const auto& [number, worker] : point.attached()) {
    list.push_back({{"pid", worker.pid}, {"uid", worker.uid}});
  }
  return list;
}

ordered_json Service(const ServiceBroker& service) {
  const ServiceSetup& setup = *service.setup();
  ordered_json listen = ordered_json::array();
  for (const auto& address : setup.config.listen) listen.push_back(ToString(address.value));
  ordered_json not_listening = ordered_json::array();
  for (const auto& missing : setup.missing)
    not_listening.push_back(ToString(missing.address.value));
  ordered_json certificates = ordered_json::array();
  for (const uint16_t id : setup.server_certificates)
    certificates.push_back(setup.certificates[id].config.name.value);
  const supervision::Counters counters = service.counters();
  const Generation* current = service.current();
  return {{"name", service.name()},
          {"state", service.state()},
          {"generation", current == nullptr ? ordered_json() : ordered_json(current->number())},
          {"handshakers", current == nullptr ? 0 : current->handshakers()},
          {"hung", service.hung()},
          {"left_behind", service.left_behind()},
          {"listen", std::move(listen)},
          {"not_listening", std::move(not_listening)},
          {"certificates", std::move(certificates)},
          {"ktls", KtlsModeName(setup.config.terms.ktls)},
          {"direct", counters.handed_off_direct},
          {"relay", counters.handed_off_relay},
          {"last_reason", OrNull(service.last_reason())},
          {"queue", {{"waiting", setup.queue->waiting()}, {"capacity", setup.queue->capacity()}}},
          {"worker", service.workers() == nullptr ? ordered_json() : Worker(*service.workers())},
          {"attached",
           service.attach_point() == nullptr ? ordered_json() : Attached(*service.attach_point())},
          {"counters", Counters(counters)}};
}

ordered_json Services(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  for (const auto& [name, service] : source.services) {
    if (service->setup()) list.push_back(Service(*service));
  }
  return list;
}

// Each certificate once, however many services have it.
ordered_json Certificates(const StatusSource& source) {
  std::map<std::string, uint64_t> expiries;
  for (const auto& [name, service] : source.services) {
    if (service->current() == nullptr) continue;
    for (const auto& expiry : service->current()->facts().expiries) {
      const auto& certificates = service->setup()->certificates;
      if (expiry.certificate_id < certificates.size())
        expiries[certificates[expiry.certificate_id].config.name.value] = expiry.not_after;
    }
  }
  ordered_json list = ordered_json::array();
  const int64_t now = Seconds(SystemClock::now());
  for (const auto& [name, not_after] : expiries) {
    const auto end = static_cast<int64_t>(not_after);
    list.push_back({{"name", name}, {"not_after", end}, {"days_left", (end - now) / 86'400}});
  }
  return list;
}

// All handshakers find the same.
ordered_json KernelSuites(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  for (const auto& [name, service] : source.services) {
    if (service->current() == nullptr) continue;
    for (const auto& suite : service->current()->facts().kernel_suites)
      list.push_back({{"suite", suite.name}, {"reason", OrNull(suite.reason)}});
    if (!list.empty()) break;
  }
  return list;
}

supervision::Counters Sum(const StatusSource& source) {
  supervision::Counters sum;
  for (const auto& [name, service] : source.services) Add(sum, service->counters());
  return sum;
}

void AddMissing(ordered_json& list, const std::string& who, const sandbox::MissingParts& missing) {
  for (const std::string& part : missing.parts()) list.push_back({{"who", who}, {"what", part}});
}

// The parts of the confinement that this machine lacks, by process.
ordered_json Missing(const StatusSource& source) {
  ordered_json list = ordered_json::array();
  AddMissing(list, "keyholders, handshakers, porters, loggers",
             sandbox::MissingInBrokerProcess(source.machine));
  for (const auto& [name, service] : source.services) {
    if (service->workers() == nullptr) continue;
    AddMissing(list, "worker of " + name, sandbox::MissingInWorker(source.machine));
  }
  return list;
}

ordered_json Reload(const std::optional<LastReload>& reload) {
  if (!reload) return nullptr;
  return {{"number", reload->number}, {"time", Seconds(reload->at)}, {"ok", reload->errors.empty()},
          {"errors", reload->errors}, {"started", reload->started},  {"removed", reload->removed}};
}

}  // namespace

std::string StatusReport(const StatusSource& source) {
  const auto now = SystemClock::now();
  const ordered_json report = {
      {"version", TLSBROKER_VERSION},
      {"config", source.setup.file},
      {"config_files", source.setup.config.files},
      {"state", source.state},
      {"started", Seconds(source.started)},
      {"uptime_seconds", Seconds(now) - Seconds(source.started)},
      {"reloads_begun", source.reloads_begun},
      {"last_reload", Reload(source.last_reload)},
      {"processes", Processes(source)},
      {"services", Services(source)},
      {"certificates", Certificates(source)},
      {"counters", Counters(Sum(source))},
      {"kernel_tls", KernelSuites(source)},
      {"confinement_missing", Missing(source)},
  };
  // Texts of a handshaker need not be UTF-8.
  return report.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace tlsbroker::supervisor
