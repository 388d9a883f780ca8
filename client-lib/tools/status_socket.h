// The status socket of a running broker: its report, and who wrote it. The broker reads nothing
// from who asks.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_

#include <sys/types.h>

#include <optional>
#include <string>

namespace tlsbroker::tools {

inline constexpr char kDefaultRuntimeDir[] = "/run/tlsbroker";

struct StatusAnswer {
  pid_t pid = 0;       // of the broker, by the kernel's word; 0 if it is not in our pid namespace
  std::string report;  // JSON, tlsbroker-status(1)
};

// nullopt when all has been said, by `command` ("tlsbroker status").
std::optional<StatusAnswer> AskForStatus(const char* command, const std::string& runtime_dir);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_
