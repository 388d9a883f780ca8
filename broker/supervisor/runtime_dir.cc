// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/runtime_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tlsbroker::supervisor {

void CheckRuntimeDir(const BrokerConfig& config, Diagnostics& diagnostics) {
  const auto& [path, position] = config.runtime_dir;
  struct stat status {};
  const bool there = stat(path.c_str(), &status) == 0;
  const size_t end = path.find_last_not_of('/');  // npos, if it is the root
  const std::string above = path.substr(0, path.rfind('/', end) + 1);
  errno = ENOTDIR;
  const bool good =
      (!there || S_ISDIR(status.st_mode)) &&
      faccessat(AT_FDCWD, there ? path.c_str() : above.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
  if (!good) {
    diagnostics.Error(position,
                      "\"" + path + "\" cannot be " + (there ? "written to: " : "created: ") +
                          std::strerror(errno),
                      "a directory that the broker may create or write to is needed");
    return;
  }
  const std::string lock = path + "/lock";
  const UniqueFd fd(open(lock.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd || errno == ENOENT) return;
  diagnostics.Error(position, "\"" + lock + "\" cannot be opened: " + std::strerror(errno),
                    "a directory that the broker may write to is needed");
}

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
