// `tlsbroker status`: reads the broker's state from its status socket and prints it.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "client-lib/tools/command.h"
#include "client-lib/tools/status_socket.h"
#include "client-lib/tools/status_table.h"

namespace tlsbroker::tools {
namespace {

constexpr char kUsage[] =
    "usage: tlsbroker status [--json] [--runtime-dir DIR]\n"
    "\n"
    "Prints what a running broker does: services, workers, processes, certificates,\n"
    "handshakes, limits that were hit, and what its confinement lacks here.\n"
    "\n"
    "  --json             all of it as JSON\n"
    "  --runtime-dir DIR  of the broker, \"/run/tlsbroker\" otherwise\n"
    "  --help             this text\n"
    "\n"
    "Exit status: 0; 1 if no broker answers; 2 usage.\n";

struct Options {
  bool json = false;
  bool help = false;
  std::string runtime_dir = kDefaultRuntimeDir;
};

std::optional<Options> ParseOptions(std::span<char* const> arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--runtime-dir" && i + 1 < arguments.size()) {
      options.runtime_dir = arguments[++i];
    } else {
      fprintf(stderr, "tlsbroker status: unexpected argument \"%s\"\n%s", arguments[i], kUsage);
      return std::nullopt;
    }
  }
  return options;
}

std::optional<std::string> Format(const std::string& text) {
  try {
    return FormatStatus(nlohmann::ordered_json::parse(text));
  } catch (const nlohmann::json::exception& error) {
    fprintf(stderr, "tlsbroker status: the broker is of another version: %s\n", error.what());
    return std::nullopt;
  }
}

}  // namespace

int RunStatus(std::span<char* const> arguments) {
  const std::optional<Options> options = ParseOptions(arguments);
  if (!options) return kExitUsage;
  if (options->help) {
    fputs(kUsage, stdout);
    return FinishStdout(kExitOk);
  }
  const auto asked = AskForStatus("tlsbroker status", options->runtime_dir);
  if (!asked) return kExitFailed;
  std::optional<std::string> text = asked->report;
  if (!options->json) text = Format(*text);
  if (!text) return kExitFailed;
  fputs(text->c_str(), stdout);
  return FinishStdout(kExitOk);
}

}  // namespace tlsbroker::tools
