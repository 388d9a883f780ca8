// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/programs.h"

#include <limits.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <array>
#include <string_view>

namespace tlsbroker::supervisor {
namespace {

constexpr std::string_view kSbinDir = TLSBROKER_SBINDIR;
constexpr std::string_view kBinDir = TLSBROKER_BINDIR;
constexpr std::string_view kLibexecDir = TLSBROKER_LIBEXECDIR;

std::string OwnDirectory() {
  std::array<char, PATH_MAX> path;
  ssize_t n = readlink("/proc/self/exe", path.data(), path.size());
  // Without /proc: as it was started, if that was an absolute path.
  const auto* started = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (n <= 0 && started != nullptr && *started == '/')
    n = static_cast<ssize_t>(std::string_view(started).copy(path.data(), path.size()));
  if (n <= 0) return std::string(kSbinDir);
  const std::string_view self(path.data(), static_cast<size_t>(n));
  return std::string(self.substr(0, self.rfind('/')));
}

// The build puts each program into the folder of its process.
std::string FindProgram(const std::string& own_directory, const std::string& role) {
  const std::string name = "tlsbroker-" + role;
  const std::string parent = own_directory.substr(0, own_directory.rfind('/'));
  std::string built = parent + "/" + role + "/" + name;
  if (own_directory != kSbinDir && access(built.c_str(), X_OK) == 0) return built;
  return std::string(kLibexecDir) + "/" + name;
}

std::string FindTool(const std::string& own_directory) {
  const std::string broker = own_directory.substr(0, own_directory.rfind('/'));
  std::string built = broker.substr(0, broker.rfind('/')) + "/client-lib/tools/tlsbroker";
  if (own_directory != kSbinDir && access(built.c_str(), X_OK) == 0) return built;
  return std::string(kBinDir) + "/tlsbroker";
}

}  // namespace

Programs FindPrograms() {
  const std::string directory = OwnDirectory();
  return {.keyholder = FindProgram(directory, "keyholder"),
          .handshaker = FindProgram(directory, "handshaker"),
          .logger = FindProgram(directory, "logger"),
          .porter = FindProgram(directory, "porter"),
          .tool = FindTool(directory)};
}

}  // namespace tlsbroker::supervisor
