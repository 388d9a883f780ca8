// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/worker_check.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "broker/sandbox/user.h"

namespace tlsbroker::supervisor {
namespace {

std::string ErrorText() { return std::strerror(errno); }

// 0, or errno of what its user cannot do, in a process of its own that becomes that user.
constexpr int kNotAFile = 254;
constexpr int kNotExecutable = 255;  // by nobody

int LookAsUser(const char* path, const std::optional<Account>& account) {
  if (account && !sandbox::BecomeUser(account->uid, account->gid).ok()) return 0;
  struct stat status {};
  if (stat(path, &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return kNotAFile;
  if ((status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0) return kNotExecutable;
  return access(path, X_OK) == 0 ? 0 : errno;
}

int Look(const char* path, const std::optional<Account>& account) {
  const pid_t pid = fork();
  if (pid == 0) _exit(LookAsUser(path, account));
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 0;
  return WEXITSTATUS(status);
}

void CheckProgram(const WorkerConfig& worker, const std::optional<Account>& account,
                  Diagnostics& diagnostics) {
  const std::string& path = worker.command.value.front();
  const int found = Look(path.c_str(), account);
  if (found == 0) return;
  std::string wrong = "cannot be found: " + std::string(std::strerror(found));
  std::string right = "a program is needed";
  if (found == kNotAFile) wrong = "is not a regular file";
  if (found == kNotExecutable) wrong = "is not executable";
  if (found == EACCES) {
    const std::string user =
        account && worker.user ? "\"" + worker.user->value + "\"" : "this user";
    wrong = "cannot be executed by " + user + ": " + std::strerror(found);
    right = "the program, and each directory above it, needs x for that user";
  }
  diagnostics.Error(worker.command.position, "\"" + path + "\" " + wrong, right);
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

void CheckWorkerFiles(const Config& config, const Accounts& accounts, Diagnostics& diagnostics) {
  for (size_t i = 0; i < config.services.size(); ++i) {
    const ServiceConfig& service = config.services[i];
    if (!service.worker) continue;
    CheckProgram(*service.worker, accounts.services[i].worker, diagnostics);
    CheckPaths(service.worker->read_only, diagnostics);
    CheckPaths(service.worker->read_write, diagnostics);
    CheckDirectory(service.worker->directory, diagnostics);
  }
}

}  // namespace tlsbroker::supervisor
