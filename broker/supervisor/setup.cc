#include "broker/supervisor/setup.h"

#include <sched.h>

#include <algorithm>

#include "broker/supervisor/worker_check.h"

namespace tlsbroker::supervisor {
namespace {

// One per CPU that this process may run on.
uint32_t CpuCount() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(std::max(CPU_COUNT(&set), 1));
}

std::shared_ptr<Queue> FindQueue(const Setup& setup, const std::string& service) {
  const auto& services = setup.config.services;
  for (size_t i = 0; i < services.size(); ++i) {
    if (services[i].name.value == service) return setup.queues[i];
  }
  return nullptr;
}

std::shared_ptr<Queue> OpenQueue(const ServiceConfig& service, Diagnostics& diagnostics) {
  auto queue = Queue::Open(service.backlog.value);
  if (queue.ok()) return std::make_shared<Queue>(*std::move(queue));
  diagnostics.Error(service.backlog.position,
                    "the queue cannot be made: " + std::string(queue.status().message()),
                    "more descriptors (LimitNOFILE=) or less of a backlog may help");
  return nullptr;
}

}  // namespace

Setup CheckSetup(Diagnostics& diagnostics) {
  Setup setup;
  setup.file = diagnostics.file();
  setup.config = ReadConfig(diagnostics);
  if (diagnostics.failed()) return setup;
  setup.credentials = OpenCredentials(setup.config, diagnostics);
  setup.trust = OpenTrust(setup.config, diagnostics);
  setup.accounts = LookUpAccounts(setup.config, diagnostics);
  CheckWorkers(setup.config, diagnostics);
  return setup;
}

Setup OpenSetup(Diagnostics& diagnostics, const InheritedSockets& inherited,
                const Setup* previous) {
  Setup setup = CheckSetup(diagnostics);
  if (diagnostics.failed()) return setup;
  const uint32_t wanted = setup.config.broker.handshakers;
  setup.handshakers = wanted == 0 ? CpuCount() : wanted;
  setup.listeners = OpenListeners(
      setup.config, inherited, previous == nullptr ? std::vector<Listener>() : previous->listeners,
      diagnostics);
  for (const ServiceConfig& service : setup.config.services) {
    auto queue = previous == nullptr ? nullptr : FindQueue(*previous, service.name.value);
    if (!queue || queue->Broken()) queue = OpenQueue(service, diagnostics);
    setup.queues.push_back(std::move(queue));
  }
  return setup;
}

}  // namespace tlsbroker::supervisor
