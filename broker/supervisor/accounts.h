// SPDX-License-Identifier: Apache-2.0
// The users that the configuration names, looked up. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_ACCOUNTS_H_
#define TLSBROKER_BROKER_SUPERVISOR_ACCOUNTS_H_

#include <sys/types.h>

#include <optional>
#include <vector>

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
  friend bool operator==(const Account&, const Account&) = default;
};

// Without root no process can become another user: all are the user who started the broker, and the
// users of the configuration are not looked up.
struct Accounts {
  struct Service {
    std::optional<Account> broker;  // keyholder, handshakers, porter
    std::optional<Account> worker;
  };
  std::optional<Account> broker;  // loggers, porter of `tlsbroker status`
  std::vector<Service> services;  // in the order of config.services
};

bool RunsAsRoot();

Accounts LookUpAccounts(const Config& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_ACCOUNTS_H_
