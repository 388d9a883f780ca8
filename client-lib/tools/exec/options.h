// SPDX-License-Identifier: Apache-2.0
// The command line of `tlsbroker exec`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_OPTIONS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace tlsbroker::tools {

// How a program gets its connection.
enum class Style {
  kStdio,    // as standard input and output
  kSocket,   // as standard input and output, which are one stream socket (inetd(8), stunnel(8))
  kSystemd,  // as descriptor 3, a stream socket (systemd.socket(5) with Accept=yes)
};

struct ExecOptions {
  using Duration = std::chrono::milliseconds;

  std::string service;  // empty: the only one that there is
  std::string socket;   // SERVICE.sock of a running broker; empty: the environment has the queue
  std::vector<std::string> program;  // and its arguments
  Style style = Style::kStdio;
  uint32_t max_connections = 128;
  uint32_t max_per_source = 0;                    // 0: no limit but max_connections
  Duration idle_timeout = std::chrono::hours(1);  // without a byte in either direction; 0: none
  Duration lifetime{0};                           // of a connection; 0: no limit
  Duration grace = std::chrono::seconds(5);       // from SIGTERM to SIGKILL
};

// The exit status instead if the program is not to run: the help or an error has been printed then.
std::variant<ExecOptions, int> ParseExecOptions(std::span<char* const> arguments);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_OPTIONS_H_
