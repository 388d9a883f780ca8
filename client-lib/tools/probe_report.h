// SPDX-License-Identifier: Apache-2.0
// The result of `tlsbroker-handshaker --probe`: read, and shown as a table or as JSON. Runs in
// `tlsbroker probe`; what it reads comes from the program that it started.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_PROBE_REPORT_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_PROBE_REPORT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client-lib/tools/nic_features.h"

namespace tlsbroker::tools {

struct Support {
  bool ok = false;
  std::string reason;  // token, "kernel-no-tls-ulp"
  std::string detail;  // sentence
};

struct Combination {
  std::string version, suite;
  Support tx, rx;
  bool openssl_offers = false;

  bool direct() const { return tx.ok && rx.ok && openssl_offers; }
};

struct ProbeReport {
  std::string kernel, openssl;
  Support ulp;
  std::vector<Combination> combinations;
  Support rekey_tx, rekey_rx;
  std::vector<Interface> interfaces;  // not from the child
};

// The format is in broker/handshaker/probe_main.cc. nullopt if a line is not of that format, or the
// report is not whole.
std::optional<ProbeReport> ParseProbeReport(std::string_view lines);

// One sentence: whether connections will be direct.
std::string Conclusion(const ProbeReport& report);

std::string FormatTable(const ProbeReport& report);
std::string FormatJson(const ProbeReport& report);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_PROBE_REPORT_H_
