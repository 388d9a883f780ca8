// SPDX-License-Identifier: Apache-2.0
// Reads the probe's lines and draws the conclusion. See the header.

#include "client-lib/tools/probe_report.h"

#include <algorithm>

namespace tlsbroker::tools {
namespace {

using Fields = std::vector<std::string_view>;

Fields Split(std::string_view text, char separator) {
  Fields parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<bool> YesNo(std::string_view text) {
  if (text == "yes") return true;
  if (text == "no") return false;
  return std::nullopt;
}

// Reads the three fields from `first` on, which have to be the last ones.
bool ReadSupport(const Fields& fields, size_t first, Support& support) {
  if (fields.size() != first + 3) return false;
  const auto ok = YesNo(fields[first]);
  if (!ok) return false;
  support = {*ok, std::string(fields[first + 1]), std::string(fields[first + 2])};
  return true;
}

Support* PickDirection(std::string_view name, Support& tx, Support& rx) {
  if (name == "tx") return &tx;
  return name == "rx" ? &rx : nullptr;
}

Combination& CombinationOf(ProbeReport& report, std::string_view version, std::string_view suite) {
  for (Combination& each : report.combinations) {
    if (each.version == version && each.suite == suite) return each;
  }
  report.combinations.push_back({std::string(version), std::string(suite), {}, {}, false});
  return report.combinations.back();
}

bool ReadDirection(const Fields& fields, ProbeReport& report) {
  if (fields.size() != 7) return false;
  Combination& combination = CombinationOf(report, fields[1], fields[2]);
  Support* support = PickDirection(fields[3], combination.tx, combination.rx);
  return support != nullptr && ReadSupport(fields, 4, *support);
}

bool ReadOffer(const Fields& fields, ProbeReport& report) {
  if (fields.size() != 4) return false;
  const auto offers = YesNo(fields[3]);
  CombinationOf(report, fields[1], fields[2]).openssl_offers = offers.value_or(false);
  return offers.has_value();
}

bool ReadRekey(const Fields& fields, ProbeReport& report) {
  if (fields.size() != 5) return false;
  Support* support = PickDirection(fields[1], report.rekey_tx, report.rekey_rx);
  return support != nullptr && ReadSupport(fields, 2, *support);
}

bool ReadText(const Fields& fields, std::string& text) {
  if (fields.size() != 2) return false;
  text = fields[1];
  return true;
}

bool ReadLine(const Fields& fields, ProbeReport& report) {
  const std::string_view what = fields.front();
  if (what == "kernel") return ReadText(fields, report.kernel);
  if (what == "openssl") return ReadText(fields, report.openssl);
  if (what == "ulp") return ReadSupport(fields, 1, report.ulp);
  if (what == "direction") return ReadDirection(fields, report);
  if (what == "offer") return ReadOffer(fields, report);
  if (what == "rekey") return ReadRekey(fields, report);
  return false;
}

std::string FirstReason(const ProbeReport& report) {
  if (!report.ulp.ok) return report.ulp.reason;
  for (const Combination& each : report.combinations) {
    for (const Support* support : {&each.tx, &each.rx}) {
      if (!support->ok) return support->reason;
    }
  }
  return "OpenSSL offers none of the suites";
}

}  // namespace

std::optional<ProbeReport> ParseProbeReport(std::string_view lines) {
  ProbeReport report;
  if (!lines.ends_with('\n')) return std::nullopt;
  lines.remove_suffix(1);
  for (const std::string_view line : Split(lines, '\n')) {
    if (!ReadLine(Split(line, '\t'), report)) return std::nullopt;
  }
  if (report.kernel.empty() || report.combinations.empty()) return std::nullopt;
  return report;
}

std::string Conclusion(const ProbeReport& report) {
  const auto& all = report.combinations;
  const auto direct = std::ranges::count_if(all, &Combination::direct);
  const std::string total = std::to_string(all.size());
  if (direct == std::ssize(all))
    return "Direct mode is available for all " + total + " combinations.";
  if (direct == 0) {
    return "Direct mode is not available here (" + FirstReason(report) +
           "); connections will be relayed.";
  }
  std::string relayed;
  for (const Combination& each : all) {
    if (each.direct()) continue;
    relayed += (relayed.empty() ? "" : ", ") + each.version + " " + each.suite;
  }
  return "Direct mode is available for " + std::to_string(direct) + " of " + total +
         " combinations, which the broker prefers; relayed would be: " + relayed + ".";
}

}  // namespace tlsbroker::tools
