// SPDX-License-Identifier: Apache-2.0
// Gives a process directories of its own as /tmp, /var/tmp and /dev/shm: a file system in memory
// that is gone with the last process of its mount namespace, however that ends. Runs in the forked
// child of the supervisor; trusts the configuration.

#ifndef TLSBROKER_BROKER_SANDBOX_PRIVATE_TMP_H_
#define TLSBROKER_BROKER_SANDBOX_PRIVATE_TMP_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tlsbroker::sandbox {

// The directories that are replaced where the machine has them.
inline constexpr const char* kTemporary[] = {"/tmp", "/var/tmp"};
inline constexpr char kSharedMemory[] = "/dev/shm";  // of shm_overview(7) and sem_overview(7)

struct PrivateTmp {
  uid_t uid = 0;  // of the process
  gid_t gid = 0;
  // All directories together; without it a tenth of the machine's memory.
  std::optional<uint64_t> size;
  // Of these paths, those below the machine's directories stay where they are, with the directories
  // and symbolic links that lead to them, and nothing beside them. So does /dev/shm itself.
  std::vector<std::string> read_only;
  std::vector<std::string> read_write;
};

// Those that the process gets.
std::vector<std::string> Replaced(const PrivateTmp& wanted);

// Needs a mount namespace of its own (EnterNamespaces()) and CAP_SYS_ADMIN.
absl::Status MountPrivateTmp(const PrivateTmp& wanted);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_PRIVATE_TMP_H_
