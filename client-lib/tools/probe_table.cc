// SPDX-License-Identifier: Apache-2.0
// The probe's result for people: every "no" has a number, and the reasons stand below.

#include <algorithm>

#include "client-lib/tools/probe_report.h"
#include "client-lib/tools/table.h"

namespace tlsbroker::tools {
namespace {

// The same reason for twelve fields is said once.
class Footnotes {
 public:
  std::string Cell(const Support& support) {
    if (support.ok) return "yes";
    std::string text = support.reason;
    if (!support.detail.empty()) text += ": " + support.detail;
    return Cell(std::move(text));
  }
  std::string Cell(std::string text) {
    auto found = std::ranges::find(notes_, text);
    if (found == notes_.end()) found = notes_.insert(notes_.end(), std::move(text));
    return "no (" + std::to_string(found - notes_.begin() + 1) + ")";
  }
  std::string Text() const {
    std::string out;
    for (size_t i = 0; i < notes_.size(); ++i) {
      out += "(" + std::to_string(i + 1) + ") " + notes_[i] + "\n";
    }
    return out;
  }

 private:
  std::vector<std::string> notes_;
};

std::string FeatureCell(const std::optional<FeatureState>& state) {
  if (!state) return "not in this kernel";
  return std::string(state->on ? "on" : "off") + (state->fixed ? " (fixed)" : "");
}

std::string CombinationTable(const ProbeReport& report, Footnotes& notes) {
  std::vector<Row> rows = {{"kernel TLS", "", "send (TX)", "receive (RX)", "OpenSSL offers"}};
  for (const Combination& each : report.combinations) {
    rows.push_back(
        {each.version, each.suite, notes.Cell(each.tx), notes.Cell(each.rx),
         each.openssl_offers ? "yes" : notes.Cell("this OpenSSL does not negotiate it")});
  }
  rows.push_back(
      {"rekey", "(KeyUpdate)", notes.Cell(report.rekey_tx), notes.Cell(report.rekey_rx)});
  return Align(rows);
}

std::string InterfaceTable(const ProbeReport& report) {
  std::vector<Row> rows = {{"NIC offload"}};
  rows.front().insert(rows.front().end(), kTlsFeatures.begin(), kTlsFeatures.end());
  for (const Interface& each : report.interfaces) {
    // The kernel forbids only '/', ':' and white space in names.
    Row& row = rows.emplace_back(Row{Printable(each.name)});
    for (const auto& state : each.features) row.push_back(FeatureCell(state));
  }
  if (rows.size() == 1) rows.push_back({"(no network interface)"});
  return Align(rows);
}

}  // namespace

std::string FormatTable(const ProbeReport& report) {
  Footnotes notes;
  std::string out = "Kernel " + report.kernel + ", " + report.openssl + "\n\n";
  out += CombinationTable(report, notes) + "\n";
  if (const std::string text = notes.Text(); !text.empty()) out += text + "\n";
  return out + InterfaceTable(report) + "\n" + Conclusion(report) + "\n";
}

}  // namespace tlsbroker::tools
