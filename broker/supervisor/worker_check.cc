// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/worker_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tlsbroker::supervisor {
namespace {

std::string ErrorText() { return std::strerror(errno); }

void CheckProgram(const At<std::vector<std::string>>& command, Diagnostics& diagnostics) {
  const std::string& path = command.value.front();
  struct stat status {};
  std::string wrong;
  if (stat(path.c_str(), &status) != 0) {
    wrong = "cannot be found: " + ErrorText();
  } else if (!S_ISREG(status.st_mode)) {
    wrong = "is not a regular file";
  } else if ((status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) {
    wrong = "is not executable";
  }
  if (wrong.empty()) return;
  diagnostics.Error(command.position, "\"" + path + "\" " + wrong, "a program is needed");
}

void CheckPaths(const std::vector<At<std::string>>& paths, Diagnostics& diagnostics) {
  for (const auto& [path, position] : paths) {
    if (access(path.c_str(), F_OK) == 0) continue;
    diagnostics.Error(position, "\"" + path + "\" cannot be found: " + ErrorText(),
                      "a file or directory that exists is needed");
  }
}

void CheckDirectory(const std::optional<At<std::string>>& directory, Diagnostics& diagnostics) {
  if (!directory) return;
  struct stat status {};
  std::string wrong;
  if (stat(directory->value.c_str(), &status) != 0) {
    wrong = "cannot be found: " + ErrorText();
  } else if (!S_ISDIR(status.st_mode)) {
    wrong = "is not a directory";
  }
  if (wrong.empty()) return;
  diagnostics.Error(directory->position, "\"" + directory->value + "\" " + wrong,
                    "a directory that exists is needed");
}

void CheckAttach(const ServiceConfig& service, Diagnostics& diagnostics) {
  const auto& first = service.allow_users.empty() ? service.allow_groups : service.allow_users;
  if (service.worker && !first.empty()) {
    diagnostics.Error(first.front().position,
                      "workers cannot attach to a service that has a section 'worker'",
                      "leave out either that section or 'allow_users' and 'allow_groups'");
  }
  if (!service.worker && first.empty()) {
    diagnostics.Warning(
        service.name.position, "only root may attach workers to this service",
        "add allow_users, allow_groups or a section [service." + service.name.value + ".worker]");
  }
}

}  // namespace

void CheckAttachment(const Config& config, Diagnostics& diagnostics) {
  for (const ServiceConfig& service : config.services) CheckAttach(service, diagnostics);
}

void CheckWorkerFiles(const Config& config, Diagnostics& diagnostics) {
  for (const ServiceConfig& service : config.services) {
    if (!service.worker) continue;
    CheckProgram(service.worker->command, diagnostics);
    CheckPaths(service.worker->read_only, diagnostics);
    CheckPaths(service.worker->read_write, diagnostics);
    CheckDirectory(service.worker->directory, diagnostics);
  }
}

}  // namespace tlsbroker::supervisor
