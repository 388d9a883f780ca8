// SPDX-License-Identifier: Apache-2.0
// The part of the file system that a process may still reach, by Landlock: nothing but what is
// allowed path by path. Runs in each process of the broker while it is confined. Uses as much of
// Landlock as the running kernel knows (landlock(7)): Linux 6.1 has version 2, files only.

#ifndef TLSBROKER_BROKER_SANDBOX_LANDLOCK_H_
#define TLSBROKER_BROKER_SANDBOX_LANDLOCK_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::sandbox {

class Landlock {
 public:
  enum class Access {
    kRead,
    kReadExecute,
    kReadWrite,  // create, rename and remove too, but neither device nodes nor execution
  };
  enum class Network {
    kAny,
    kNone,  // no TCP connect or bind (version 4), no abstract Unix sockets from outside (version 6)
  };

  // The running kernel's version; 0 if it has none or it is switched off at boot.
  static int Version();

  // From version 6 on the process cannot signal processes outside its own sandbox either.
  static absl::StatusOr<Landlock> Create(Network network);

  // A file, or a directory with all below it. The error names the path.
  absl::Status Allow(const std::string& path, Access access);
  // Same, but a path that does not exist is no error.
  absl::Status AllowIfPresent(const std::string& path, Access access);

  // From now on nothing else can be opened. Descriptors that are open stay usable. Needs
  // no_new_privs.
  absl::Status Enforce();

 private:
  Landlock(UniqueFd ruleset, uint64_t handled) : ruleset_(std::move(ruleset)), handled_(handled) {}

  UniqueFd ruleset_;  // invalid: the kernel has no Landlock, paths are only checked
  uint64_t handled_;
};

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_LANDLOCK_H_
