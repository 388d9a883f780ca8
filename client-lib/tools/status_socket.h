// SPDX-License-Identifier: Apache-2.0
// The status socket of a running broker: gives its report, and a handle on the broker. The broker
// reads nothing from those who ask.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_

#include <string>
#include <variant>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

inline constexpr char kDefaultRuntimeDir[] = "/run/tlsbroker";

struct StatusAnswer {
  UniqueFd supervisor;  // a pidfd, whatever the pid namespaces; invalid if none came
  std::string report;   // JSON, tlsbroker-status(1)
};

// The exit status instead on an error, which has been said in the name of `command` ("tlsbroker
// status").
std::variant<StatusAnswer, int> AskForStatus(const char* command, const std::string& runtime_dir);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_STATUS_SOCKET_H_
