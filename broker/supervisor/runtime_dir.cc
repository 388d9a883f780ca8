// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/runtime_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace tlsbroker::supervisor {

UniqueFd LockRuntimeDir(const BrokerConfig& config, Diagnostics& diagnostics) {
  const auto& [path, position] = config.runtime_dir;
  if (mkdir(path.c_str(), kRuntimeDirMode) != 0 && errno != EEXIST) {
    diagnostics.Error(position, "\"" + path + "\" cannot be created: " + std::strerror(errno),
                      "a directory that the broker may create or write to is needed");
    return {};
  }
  const std::string lock = path + "/lock";
  UniqueFd fd(open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    diagnostics.Error(position, "\"" + lock + "\" cannot be opened: " + std::strerror(errno),
                      "a directory that the broker may write to is needed");
    return {};
  }
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    diagnostics.Error(position, "another broker runs in \"" + path + "\"",
                      "stop it, or use another 'runtime_dir'");
    return {};
  }
  return fd;
}

}  // namespace tlsbroker::supervisor
