// SPDX-License-Identifier: Apache-2.0
// Which files and directories some paths name just now: Landlock's rules, and mounts, are about
// those and not about names. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PATH_IDENTITIES_H_
#define TLSBROKER_BROKER_SUPERVISOR_PATH_IDENTITIES_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace tlsbroker::supervisor {

struct PathIdentity {
  dev_t device = 0;
  ino_t number = 0;
  int error = 0;  // of stat(2), then the numbers are 0
  friend bool operator==(const PathIdentity&, const PathIdentity&) = default;
};

using PathIdentities = std::map<std::string, PathIdentity>;

// A path that hangs, and those behind it, are left out: they are looked up elsewhere (elsewhere.h),
// for the service.
PathIdentities LookUpPaths(const std::vector<std::string>& paths, const std::string& service);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PATH_IDENTITIES_H_
