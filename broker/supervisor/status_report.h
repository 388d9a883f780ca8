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
#include "broker/supervisor/attach.h"
#include "broker/supervisor/generation.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/workers.h"

namespace tlsbroker::supervisor {

struct LastReload {
  uint64_t number = 0;  // the first is 1
  std::chrono::system_clock::time_point at;
  std::vector<std::string> errors;  // none if it has succeeded
};

// What the supervisor knows; borrowed for the call.
struct StatusSource {
  const Setup& setup;
  const char* state;  // "starting", "serving", "stopping"
  std::chrono::system_clock::time_point started;
  uint64_t reloads_begun;
  const std::optional<LastReload>& last_reload;
  const Generation* current;  // may be null
  const std::vector<std::shared_ptr<Generation>>& retired;
  const std::map<std::string, std::shared_ptr<WorkerPool>>& pools;
  const std::map<std::string, std::shared_ptr<AttachPoint>>& attach_points;
  const sandbox::Machine& machine;
};

std::string StatusReport(const StatusSource& source);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_STATUS_REPORT_H_
