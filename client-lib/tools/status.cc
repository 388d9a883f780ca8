// SPDX-License-Identifier: Apache-2.0
// `tlsbroker status`: reads the broker's state from its status socket and prints it.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>

#include "client-lib/tools/command.h"
#include "client-lib/tools/options.h"
#include "client-lib/tools/status_socket.h"
#include "client-lib/tools/status_table.h"

namespace tlsbroker::tools {
namespace {

struct StatusOptions {
  bool json = false;
  std::string runtime_dir = kDefaultRuntimeDir;
};

std::variant<StatusOptions, int> ParseStatus(std::span<char* const> arguments) {
  StatusOptions options;
  const CommandLine line{
      .command = "status",
      .usage = "[OPTION]...",
      .about =
          "Prints what a running broker does: services, workers, processes, certificates, "
          "handshakes, limits that were hit, and what its confinement lacks here.",
      .exit_status = "0; 100 usage, or a broker of another version; 111 no broker answers.",
      .options = {Flag("json", options.json, "all of it as JSON"),
                  Text("runtime-dir", "DIR", options.runtime_dir, kRuntimeDirHelp)}};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
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
  const auto parsed = ParseStatus(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  const auto& options = std::get<StatusOptions>(parsed);
  const auto answer = AskForStatus("tlsbroker status", options.runtime_dir);
  if (const int* status = std::get_if<int>(&answer)) return *status;
  std::optional<std::string> text = std::get<StatusAnswer>(answer).report;
  if (!options.json) text = Format(*text);
  if (!text) return kExitPermanent;
  fputs(text->c_str(), stdout);
  return FinishStdout(kExitOk);
}

}  // namespace tlsbroker::tools
