// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/options.h"

#include "client-lib/tools/options.h"

namespace tlsbroker::tools {

std::variant<RunOptions, int> ParseRunOptions(std::span<char* const> arguments) {
  RunOptions options;
  const auto listen = [&options](const char* text) {
    options.listen = Address::Parse(text);
    return options.listen.has_value();
  };
  const CommandLine line{
      .command = "run",
      .usage = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
      .about =
          "Runs PROGRAM, a daemon that listens and accepts and knows nothing of TLS, and "
          "answers its accept(2) with the TLS connections of a service. It has to stay in the "
          "foreground and to listen in plaintext; plaintext connections to its port are "
          "closed.",
      .exit_status =
          "the daemon's, 128 and the signal's number if one has ended it; 100 usage or a "
          "lasting error; 111 an error that may pass.",
      .options = {Text("socket", "FILE", options.socket, kSocketHelp),
                  Text("service", "NAME", options.service, kServiceHelp),
                  Number("port", "PORT", options.port, uint16_t{1},
                         "the listening socket that stands for the service; the first one without "
                         "it. All others are left alone"),
                  {"listen", "ADDRESS:PORT", "the same, where the daemon has several with one port",
                   "an address such as 127.0.0.1:8080 or [::1]:8080", listen},
                  Flag("direct", options.direct,
                       "hand over connections that the kernel encrypts as they are: nothing stands "
                       "between, and the daemon meets their ends, tlsbroker-run(1)"),
                  Number("max-connections", "N", options.max_connections, 1U,
                         "connections at once, 1024; more wait. Not with --direct")},
      .words = &options.program,
      .word = "PROGRAM"};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  if (options.port != 0 && options.listen)
    return RefuseCommandLine(line, "--port and --listen: one of them is needed");
  return options;
}

}  // namespace tlsbroker::tools
