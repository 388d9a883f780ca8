// `tlsbroker probe`: has tlsbroker-handshaker try what kernel TLS can do, since that takes OpenSSL,
// and adds what the network cards could do. Runs with its caller's rights.

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "client-lib/tools/child.h"
#include "client-lib/tools/command.h"
#include "client-lib/tools/probe_report.h"

namespace tlsbroker::tools {
namespace {

// Loading the kernel's modules is what may take long.
constexpr std::chrono::seconds kTimeLimit(60);

constexpr char kUsage[] =
    "usage: tlsbroker probe [--json] [--handshaker FILE]\n"
    "\n"
    "Tries what kernel TLS can do on this machine, with real connections over the\n"
    "loopback address: every TLS version, suite and direction, and rekeying. Prints\n"
    "a table, with the reason for each \"no\", and the offload features of the network\n"
    "interfaces.\n"
    "\n"
    "  --json             the same as JSON\n"
    "  --handshaker FILE  the program that probes, instead of the installed one\n"
    "  --help             this text\n"
    "\n"
    "Exit status: 0 if the probe ran, whatever it found; 1 if it could not; 2 usage.\n";

struct Options {
  bool json = false;
  bool help = false;
  std::string handshaker;
};

// Nothing if the command line is wrong; that was said then.
std::optional<Options> ParseOptions(std::span<char* const> arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--handshaker" && i + 1 < arguments.size()) {
      options.handshaker = arguments[++i];
    } else {
      fprintf(stderr, "tlsbroker probe: unexpected argument \"%s\"\n%s", arguments[i], kUsage);
      return std::nullopt;
    }
  }
  return options;
}

std::optional<ProbeReport> Probe(const std::string& handshaker) {
  const ChildResult child = RunChild({handshaker, "--probe"}, kTimeLimit);
  if (!child.ok) {
    fprintf(stderr, "tlsbroker probe: %s %s\n", handshaker.c_str(), child.error.c_str());
    return std::nullopt;
  }
  std::optional<ProbeReport> report = ParseProbeReport(child.output);
  if (!report) {
    fprintf(stderr, "tlsbroker probe: %s is not of this version: its result has another form\n",
            handshaker.c_str());
  }
  return report;
}

}  // namespace

int RunProbe(std::span<char* const> arguments) {
  std::optional<Options> options = ParseOptions(arguments);
  if (!options) return kExitUsage;
  if (options->help) {
    fputs(kUsage, stdout);
    return FinishStdout(kExitOk);
  }
  if (options->handshaker.empty()) {
    options->handshaker = FindSibling("broker/handshaker", "tlsbroker-handshaker");
  }
  std::optional<ProbeReport> report = Probe(options->handshaker);
  if (!report) return kExitFailed;
  report->interfaces = ReadInterfaces();
  fputs((options->json ? FormatJson(*report) : FormatTable(*report)).c_str(), stdout);
  return FinishStdout(kExitOk);
}

}  // namespace tlsbroker::tools
