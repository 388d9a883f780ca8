// SPDX-License-Identifier: Apache-2.0
// The broker's state as JSON, for people (`tlsbroker status` makes a table of it) and for programs.
// tlsbroker-status(1) describes the members. Runs in the supervisor; texts that came from a
// handshaker may be anything, and are quoted.

#ifndef TLSBROKER_BROKER_SUPERVISOR_STATUS_REPORT_H_
#define TLSBROKER_BROKER_SUPERVISOR_STATUS_REPORT_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/sandbox/machine.h"
#include "broker/supervisor/role_process.h"
#include "broker/supervisor/service_broker.h"
#include "broker/supervisor/setup.h"

namespace tlsbroker::supervisor {

struct LastReload {
  uint64_t number = 0;  // the first is 1
  std::chrono::system_clock::time_point at;
  std::vector<std::string> errors;   // none if it has succeeded
  std::vector<std::string> started;  // the services that have new processes
  std::vector<std::string> removed;
};

// Everything that the supervisor knows; borrowed for the call.
struct StatusSource {
  const Setup& setup;
  const char* state;  // "starting", "serving", "stopping"
  std::chrono::system_clock::time_point started;
  uint64_t reloads_begun;
  const std::optional<LastReload>& last_reload;
  const std::map<std::string, std::shared_ptr<ServiceBroker>>& services;
  const std::vector<std::shared_ptr<ServiceBroker>>& old_services;
  const Porter* status_porter;  // may be null
  const sandbox::Machine& machine;
  std::vector<std::shared_ptr<const RoleProcess>> loggers;
};

std::string StatusReport(const StatusSource& source);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_STATUS_REPORT_H_
