#include "broker/supervisor/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

namespace tlsbroker::supervisor {
namespace {

std::optional<Account> LookUpUser(const At<std::string>& user, Diagnostics& diagnostics) {
  const passwd* entry = getpwnam(user.value.c_str());
  if (entry == nullptr) {
    diagnostics.Error(user.position, "there is no user \"" + user.value + "\"",
                      "create it with useradd --system, or name another 'user'");
    return std::nullopt;
  }
  if (entry->pw_uid == 0) {
    diagnostics.Error(user.position, "\"" + user.value + "\" is root",
                      "a user without privileges is needed");
    return std::nullopt;
  }
  return Account{entry->pw_uid, entry->pw_gid};
}

// A worker of the broker's own user could send signals to keyholder and handshakers.
std::optional<Account> LookUpWorker(const WorkerConfig& worker,
                                    const std::optional<Account>& broker,
                                    Diagnostics& diagnostics) {
  if (!worker.user) {
    diagnostics.Error(worker.position, "'user' is missing, and the broker was started by root",
                      "add user = \"NAME\" of the user who is to run this worker");
    return std::nullopt;
  }
  const auto account = LookUpUser(*worker.user, diagnostics);
  if (account && broker && account->uid == broker->uid) {
    diagnostics.Error(worker.user->position,
                      "\"" + worker.user->value + "\" is the user of the broker's own processes",
                      "another user is needed for workers");
  }
  return account;
}

void CheckAllowed(const ServiceConfig& service, Diagnostics& diagnostics) {
  for (const auto& user : service.allow_users) {
    if (getpwnam(user.value.c_str()) != nullptr) continue;
    diagnostics.Error(user.position, "there is no user \"" + user.value + "\"",
                      "users of this machine are needed");
  }
  for (const auto& group : service.allow_groups) {
    if (getgrnam(group.value.c_str()) != nullptr) continue;
    diagnostics.Error(group.position, "there is no group \"" + group.value + "\"",
                      "groups of this machine are needed");
  }
}

}  // namespace

bool RunsAsRoot() { return geteuid() == 0; }

Accounts LookUpAccounts(const Config& config, Diagnostics& diagnostics) {
  Accounts accounts;
  accounts.workers.resize(config.services.size());
  for (const ServiceConfig& service : config.services) CheckAllowed(service, diagnostics);
  if (!RunsAsRoot()) return accounts;

  accounts.broker = LookUpUser(config.broker.user, diagnostics);
  for (size_t i = 0; i < config.services.size(); ++i) {
    const auto& worker = config.services[i].worker;
    if (worker) accounts.workers[i] = LookUpWorker(*worker, accounts.broker, diagnostics);
  }
  return accounts;
}

}  // namespace tlsbroker::supervisor
