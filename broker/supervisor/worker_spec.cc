// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/worker_spec.h"

#include <utility>

#include "broker/support/log.h"
#include "broker/support/program_variable.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

std::vector<std::string> Values(const std::vector<At<std::string>>& list) {
  std::vector<std::string> values;
  for (const auto& entry : list) values.push_back(entry.value);
  return values;
}

std::vector<std::string> ExecOptions(const WorkerConfig& worker) {
  const ConnectionLimits& limits = worker.connections;
  // The option's number has 32 bits, and no time beyond 24 days needs milliseconds.
  const auto text = [](milliseconds time) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
    if (time != seconds && time < 24 * kDay) return std::to_string(time.count()) + "ms";
    return std::to_string(seconds.count()) + "s";
  };
  return {"exec",
          "--style=" + worker.style,
          "--max-connections=" + std::to_string(limits.max),
          "--max-per-source=" + std::to_string(limits.max_per_source),
          "--idle-timeout=" + text(limits.idle_timeout),
          "--lifetime=" + text(limits.lifetime),
          "--grace=" + text(limits.grace)};
}

std::vector<std::string> RunOptions(const WorkerConfig& worker) {
  std::vector<std::string> options = {"run"};
  if (worker.port != 0) options.push_back("--port=" + std::to_string(worker.port));
  if (worker.direct) options.emplace_back("--direct");
  return options;
}

// A program that is no worker is run by tlsbroker(1), which is one: by `exec` if it uses standard
// input and output, by `run` if it listens and accepts.
void RunByTool(const WorkerConfig& worker, const Programs& programs, log::Level level,
               WorkerSpec& spec) {
  spec.beats = true;
  spec.runs_daemon = worker.kind == WorkerConfig::Kind::kDaemon;
  spec.executes = {spec.command.front()};
  const auto options = spec.runs_daemon ? RunOptions(worker) : ExecOptions(worker);
  std::vector<std::string> command = {programs.tool};
  command.insert(command.end(), options.begin(), options.end());
  command.emplace_back("--");
  command.insert(command.end(), spec.command.begin(), spec.command.end());
  spec.command = std::move(command);
  for (std::string& variable : spec.environment) variable.insert(0, kProgramVariable);
  spec.environment.push_back(std::string(log::kLevelVariable) + "=" +
                             std::to_string(static_cast<int>(level)));
}

}  // namespace

WorkerSpec WorkerSpecOf(const ServiceSetup& setup, const Programs& programs) {
  const WorkerConfig& worker = *setup.config.worker;
  WorkerSpec spec{
      .service = setup.name(),
      .command = worker.command.value,
      .environment = worker.environment,
      .account = setup.worker_account,
      .network = worker.network,
      .read_only = Values(worker.read_only),
      .read_write = Values(worker.read_write),
      .directory = worker.directory ? worker.directory->value : "",
      .private_tmp = worker.private_tmp,
      .core_dumps = worker.core_dumps,
      .profile = worker.profile,
      .limits = worker.limits,
      .count = worker.count,
      .on_demand = worker.start == StartWhen::kOnDemand,
      .idle_timeout = worker.idle_timeout,
  };
  if (worker.kind != WorkerConfig::Kind::kCommand) {
    RunByTool(worker, programs, setup.log_level, spec);
  }
  return spec;
}

}  // namespace tlsbroker::supervisor
