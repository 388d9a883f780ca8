// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/options.h"

#include <string_view>

#include "client-lib/tools/options.h"

namespace tlsbroker::tools {

std::variant<ExecOptions, int> ParseExecOptions(std::span<char* const> arguments) {
  ExecOptions options;
  const auto style = [&options](std::string_view text) {
    options.style = text == "systemd"  ? Style::kSystemd
                    : text == "socket" ? Style::kSocket
                                       : Style::kStdio;
    return text == "stdio" || text == "socket" || text == "systemd";
  };
  const CommandLine line{
      .command = "exec",
      .usage = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
      .about =
          "Runs PROGRAM once for each TLS connection of a service, with the connection as its "
          "standard input and output. Its exit status 0 ends the connection cleanly; any "
          "other end of the program is an error for the client, too.",
      .exit_status = kChainExitStatus,
      .options = {Text("socket", "FILE", options.socket, kSocketHelp),
                  Text("service", "NAME", options.service, kServiceHelp),
                  {"style", "stdio|socket|systemd",
                   "how PROGRAM gets the connection: as standard input and output, two pipes or "
                   "one socket, or as descriptor 3, by the convention of sd_listen_fds(3)",
                   "\"stdio\", \"socket\" or \"systemd\"", style},
                  Number("max-connections", "N", options.max_connections, 1U,
                         "programs at once, 128; more connections wait"),
                  Number("max-per-source", "N", options.max_per_source, 0U,
                         "programs at once for one client address; more connections are closed"),
                  Time("idle-timeout", options.idle_timeout,
                       "end a connection after this time without a byte, 1h; 0: never"),
                  Time("lifetime", options.lifetime, "end a connection after this time; 0, never"),
                  Time("grace", options.grace,
                       "from SIGTERM to SIGKILL for a program whose client is gone, 5s")},
      .words = &options.program,
      .word = "PROGRAM"};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  return options;
}

}  // namespace tlsbroker::tools
