// SPDX-License-Identifier: Apache-2.0
// `tlsbroker probe`: has tlsbroker-handshaker try what kernel TLS can do, since that takes OpenSSL,
// and adds what the network cards could do. Runs with its caller's rights.

#include <cstdio>
#include <optional>
#include <string>
#include <variant>

#include "client-lib/tools/child.h"
#include "client-lib/tools/command.h"
#include "client-lib/tools/options.h"
#include "client-lib/tools/probe_report.h"

namespace tlsbroker::tools {
namespace {

// Loading the kernel's modules is what may take long.
constexpr std::chrono::seconds kProbeTimeLimit(60);

struct ProbeOptions {
  bool json = false;
  std::string handshaker;
};

std::variant<ProbeOptions, int> ParseProbe(std::span<char* const> arguments) {
  ProbeOptions options;
  const CommandLine line{
      .command = "probe",
      .usage = "[OPTION]...",
      .about =
          "Tries what kernel TLS can do on this machine, with real connections over the "
          "loopback address: every TLS version, suite and direction, and rekeying. Prints a "
          "table, with the reason for each \"no\", and the offload features of the network "
          "interfaces.",
      .exit_status =
          "0 if the probe ran, whatever it found; 100 usage, or an error that lasts; 111 "
          "an error that may pass.",
      .options = {Flag("json", options.json, "the same as JSON"),
                  Text("handshaker", "FILE", options.handshaker,
                       "the program that probes, instead of the installed one")}};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  return options;
}

std::optional<ProbeReport> Probe(const std::string& handshaker) {
  const ChildResult child = RunChild({handshaker, "--probe"}, kProbeTimeLimit);
  if (!child.ok) {
    fprintf(stderr, "tlsbroker probe: %s %s\n", handshaker.c_str(), child.error.c_str());
    return std::nullopt;
  }
  std::optional<ProbeReport> report = ParseProbeReport(child.output);
  if (!report) {
    fprintf(stderr, "tlsbroker probe: %s is of another version: its result has another format\n",
            handshaker.c_str());
  }
  return report;
}

}  // namespace

int RunProbe(std::span<char* const> arguments) {
  auto parsed = ParseProbe(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  auto& options = std::get<ProbeOptions>(parsed);
  if (options.handshaker.empty())
    options.handshaker = FindSibling("broker/handshaker", "tlsbroker-handshaker");
  std::optional<ProbeReport> report = Probe(options.handshaker);
  if (!report) return kExitTemporary;
  report->interfaces = ReadInterfaces();
  fputs((options.json ? FormatJson(*report) : FormatTable(*report)).c_str(), stdout);
  return FinishStdout(kExitOk);
}

}  // namespace tlsbroker::tools
