#include "client-lib/tools/exec/options.h"

#include <array>
#include <cstdio>
#include <string_view>

#include "client-lib/tools/command.h"
#include "client-lib/tools/option_words.h"

namespace tlsbroker::tools {
namespace {

constexpr char kUsage[] =
    "usage: tlsbroker exec [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
    "\n"
    "Runs PROGRAM once for each TLS connection of a service, with the connection as its\n"
    "standard input and output. Its exit status 0 ends the connection cleanly; any other\n"
    "end of the program is an error for the client, too.\n"
    "\n"
    "  --socket FILE         attach to a running broker: SERVICE.sock in its runtime\n"
    "                        directory; without it the broker has started this command\n"
    "  --service NAME        the service, where the broker passed several\n"
    "  --style stdio|systemd how PROGRAM gets the connection: as standard input and output,\n"
    "                        or as descriptor 3, by the convention of sd_listen_fds(3)\n"
    "  --max-connections N   programs at once, 128; more connections wait\n"
    "  --max-per-source N    programs at once for one client address; more connections\n"
    "                        are closed\n"
    "  --idle-timeout TIME   end a connection after so long without a byte, 1h; 0: never\n"
    "  --lifetime TIME       end a connection after so long; 0, never\n"
    "  --grace TIME          from SIGTERM to SIGKILL for a program whose client is gone, 5s\n"
    "  --help                this text\n"
    "\n"
    "TIME is a number and ms, s, m or h. Exit status: 0; 100 usage or a lasting error;\n"
    "111 an error that may pass.\n";

std::optional<ExecOptions::Duration> ParseTime(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t milliseconds;
  };
  // "ms" before "s", which it ends with.
  constexpr std::array kUnits = {Unit{"ms", 1}, Unit{"s", 1'000}, Unit{"m", 60'000},
                                 Unit{"h", 3'600'000}};
  if (text == "0") return ExecOptions::Duration(0);
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.name)) continue;
    uint32_t number = 0;
    if (!ParseNumber(text.substr(0, text.size() - unit.name.size()), number)) return std::nullopt;
    return ExecOptions::Duration(number * unit.milliseconds);
  }
  return std::nullopt;
}

constexpr char kTimeNeeded[] = "a time such as \"10m\"";

std::optional<Style> ParseStyle(std::string_view text) {
  if (text == "stdio") return Style::kStdio;
  if (text == "systemd") return Style::kSystemd;
  return std::nullopt;
}

int Refuse(const char* option, const char* value, const char* needed) {
  fprintf(stderr, "tlsbroker exec: --%s \"%s\": %s is needed\n", option, value, needed);
  return kExitPermanent;
}

template <typename T>
bool Take(std::optional<T> value, T& target) {
  if (value) target = *value;
  return value.has_value();
}

}  // namespace

std::variant<ExecOptions, int> ParseExecOptions(std::span<char* const> arguments) {
  constexpr option kOptions[] = {{"socket", required_argument, nullptr, 'k'},
                                 {"service", required_argument, nullptr, 's'},
                                 {"style", required_argument, nullptr, 'y'},
                                 {"max-connections", required_argument, nullptr, 'c'},
                                 {"max-per-source", required_argument, nullptr, 'p'},
                                 {"idle-timeout", required_argument, nullptr, 'i'},
                                 {"lifetime", required_argument, nullptr, 'l'},
                                 {"grace", required_argument, nullptr, 'g'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {}};
  OptionWords words("tlsbroker exec", arguments);
  ExecOptions options;
  for (int c; (c = words.Next(kOptions)) != -1;) {
    bool good = true;
    const char* needed = "a number";
    switch (c) {
      case 'k':
        options.socket = optarg;
        break;
      case 's':
        options.service = optarg;
        break;
      case 'y':
        needed = "\"stdio\" or \"systemd\"";
        good = Take(ParseStyle(optarg), options.style);
        break;
      case 'c':
        good = ParseNumber(optarg, options.max_connections) && options.max_connections > 0;
        break;
      case 'p':
        good = ParseNumber(optarg, options.max_per_source);
        break;
      case 'i':
        needed = kTimeNeeded;
        good = Take(ParseTime(optarg), options.idle_timeout);
        break;
      case 'l':
        needed = kTimeNeeded;
        good = Take(ParseTime(optarg), options.lifetime);
        break;
      case 'g':
        needed = kTimeNeeded;
        good = Take(ParseTime(optarg), options.grace);
        break;
      case 'h':
        fputs(kUsage, stdout);
        return FinishStdout(kExitOk);
      default:  // getopt_long(3) has said what
        fputs(kUsage, stderr);
        return kExitPermanent;
    }
    if (!good) return Refuse(kOptions[words.index()].name, optarg, needed);
  }
  options.program = words.Rest();
  if (options.program.empty()) {
    fprintf(stderr, "tlsbroker exec: no program\n%s", kUsage);
    return kExitPermanent;
  }
  return options;
}

}  // namespace tlsbroker::tools
