#include "client-lib/tools/run/options.h"

#include <cstdio>

#include "client-lib/tools/command.h"
#include "client-lib/tools/option_words.h"

namespace tlsbroker::tools {
namespace {

constexpr char kUsage[] =
    "usage: tlsbroker run [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
    "\n"
    "Runs PROGRAM, a daemon that listens and accepts and knows nothing of TLS, and answers\n"
    "its accept(2) with the TLS connections of a service. It has to stay in the foreground\n"
    "and to listen in plaintext; plaintext connections to its port are closed.\n"
    "\n"
    "  --socket FILE          attach to a running broker: SERVICE.sock in its runtime\n"
    "                         directory; without it the broker has started this command\n"
    "  --service NAME         the service, where the broker passed several\n"
    "  --port PORT            the listening socket that stands for the service; the first\n"
    "                         one without it. All others are left alone\n"
    "  --listen ADDRESS:PORT  the same, where the daemon has several with one port\n"
    "  --direct               hand over connections that the kernel encrypts as they are:\n"
    "                         nothing stands between, and the daemon meets their ends,\n"
    "                         tlsbroker-run(1)\n"
    "  --max-connections N    connections at once, 1024; more wait. Not with --direct\n"
    "  --help                 this text\n"
    "\n"
    "Exit status: the daemon's, 128 and the signal's number if one has ended it; 100 usage\n"
    "or a lasting error; 111 an error that may pass.\n";

}  // namespace

std::variant<RunOptions, int> ParseRunOptions(std::span<char* const> arguments) {
  constexpr option kOptions[] = {{"socket", required_argument, nullptr, 'k'},
                                 {"service", required_argument, nullptr, 's'},
                                 {"port", required_argument, nullptr, 'p'},
                                 {"listen", required_argument, nullptr, 'l'},
                                 {"direct", no_argument, nullptr, 'd'},
                                 {"max-connections", required_argument, nullptr, 'c'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {}};
  OptionWords words("tlsbroker run", arguments);
  RunOptions options;
  for (int c; (c = words.Next(kOptions)) != -1;) {
    const char* needed = nullptr;
    switch (c) {
      case 'k':
        options.socket = optarg;
        break;
      case 's':
        options.service = optarg;
        break;
      case 'p':
        if (!ParseNumber(optarg, options.port) || options.port == 0) needed = "a port number";
        break;
      case 'l':
        options.listen = Address::Parse(optarg);
        if (!options.listen) needed = "an address such as 127.0.0.1:8080 or [::1]:8080";
        break;
      case 'd':
        options.direct = true;
        break;
      case 'c':
        if (!ParseNumber(optarg, options.max_connections) || options.max_connections == 0)
          needed = "a number";
        break;
      case 'h':
        fputs(kUsage, stdout);
        return FinishStdout(kExitOk);
      default:  // getopt_long(3) has said what
        fputs(kUsage, stderr);
        return kExitPermanent;
    }
    if (needed != nullptr) {
      fprintf(stderr, "tlsbroker run: --%s \"%s\": %s is needed\n", kOptions[words.index()].name,
              optarg, needed);
      return kExitPermanent;
    }
  }
  options.program = words.Rest();
  if (options.program.empty()) {
    fprintf(stderr, "tlsbroker run: no program\n%s", kUsage);
    return kExitPermanent;
  }
  if (options.port != 0 && options.listen) {
    fprintf(stderr, "tlsbroker run: --port and --listen: one of them is needed\n");
    return kExitPermanent;
  }
  return options;
}

}  // namespace tlsbroker::tools
