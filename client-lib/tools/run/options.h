// SPDX-License-Identifier: Apache-2.0
// The command line of `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_OPTIONS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "client-lib/tools/run/address.h"

namespace tlsbroker::tools {

struct RunOptions {
  std::string service;  // empty: the only one that there is
  std::string socket;   // SERVICE.sock of a running broker; empty: the environment has the queue
  std::vector<std::string> program;  // and its arguments
  // Which of the program's listening sockets stands for the service; if neither is set, the first.
  uint16_t port = 0;
  std::optional<Address> listen;
  bool direct = false;
  uint32_t max_connections = 1024;  // number of bridges
};

// The exit status instead if the daemon is not to run: the help or an error has been printed then.
std::variant<RunOptions, int> ParseRunOptions(std::span<char* const> arguments);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_OPTIONS_H_
