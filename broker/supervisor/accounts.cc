// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>

namespace tlsbroker::supervisor {
namespace {

std::optional<Account> LookUpUser(const At<std::string>& user, Diagnostics& diagnostics) {
  const passwd* entry = getpwnam(user.value.c_str());
  if (entry == nullptr) {
    diagnostics.Error(
        user.position, "there is no user \"" + user.value + "\"",
        "create it with useradd --system " + user.value + ", or name another in 'user'");
    return std::nullopt;
  }
  if (entry->pw_uid == 0) {
    diagnostics.Error(user.position, "\"" + user.value + "\" is root",
                      "a user without privileges is needed");
    return std::nullopt;
  }
  return Account{entry->pw_uid, entry->pw_gid};
}

bool RunsBroker(const Accounts& accounts, uid_t uid) {
  const auto is = [uid](const std::optional<Account>& account) {
    return account && account->uid == uid;
  };
  return is(accounts.broker) ||
         std::ranges::any_of(accounts.services, is, &Accounts::Service::broker);
}

void RefuseBrokersUser(const At<std::string>& user, Diagnostics& diagnostics) {
  diagnostics.Error(user.position,
                    "\"" + user.value + "\" is the user of the broker's own processes",
                    "another user is needed for workers");
}

// Refuses users of the broker: a worker that runs as one of them could send signals to keyholders
// and handshakers.
std::optional<Account> LookUpWorker(const WorkerConfig& worker, const Accounts& accounts,
                                    Diagnostics& diagnostics) {
  if (!worker.user) {
    diagnostics.Error(worker.position, "'user' is missing, and the broker was started by root",
                      "add user = \"NAME\" of the user who is to run this worker");
    return std::nullopt;
  }
  const auto account = LookUpUser(*worker.user, diagnostics);
  if (account && RunsBroker(accounts, account->uid)) RefuseBrokersUser(*worker.user, diagnostics);
  return account;
}

void CheckAllowed(const ServiceConfig& service, const Accounts& accounts,
                  Diagnostics& diagnostics) {
  for (const auto& user : service.allow_users) {
    const passwd* entry = getpwnam(user.value.c_str());
    if (entry == nullptr) {
      diagnostics.Error(user.position, "there is no user \"" + user.value + "\"",
                        "users of this machine are needed");
    } else if (RunsBroker(accounts, entry->pw_uid)) {
      RefuseBrokersUser(user, diagnostics);
    }
  }
  for (const auto& group : service.allow_groups) {
    if (getgrnam(group.value.c_str()) != nullptr) continue;
    diagnostics.Error(group.position, "there is no group \"" + group.value + "\"",
                      "groups of this machine are needed");
  }
}

void LookUpUsers(const Config& config, Accounts& accounts, Diagnostics& diagnostics) {
  accounts.broker = LookUpUser(config.broker.user, diagnostics);
  for (size_t i = 0; i < config.services.size(); ++i) {
    const auto& user = config.services[i].user;
    accounts.services[i].broker = user ? LookUpUser(*user, diagnostics) : accounts.broker;
  }
  for (size_t i = 0; i < config.services.size(); ++i) {
    const auto& worker = config.services[i].worker;
    if (worker) accounts.services[i].worker = LookUpWorker(*worker, accounts, diagnostics);
  }
}

}  // namespace

bool RunsAsRoot() { return geteuid() == 0; }

Accounts LookUpAccounts(const Config& config, Diagnostics& diagnostics) {
  Accounts accounts;
  accounts.services.resize(config.services.size());
  if (RunsAsRoot()) LookUpUsers(config, accounts, diagnostics);
  for (const ServiceConfig& service : config.services) CheckAllowed(service, accounts, diagnostics);
  return accounts;
}

}  // namespace tlsbroker::supervisor
