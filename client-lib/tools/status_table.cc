// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/status_table.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "client-lib/tools/table.h"

namespace tlsbroker::tools {
namespace {

using nlohmann::ordered_json;

std::string TextOf(const ordered_json& value) {
  if (value.is_null()) return "-";
  return Printable(value.is_string() ? value.get<std::string>() : value.dump());
}

// "2 d 3 h", "5 min 4 s": the two largest units.
std::string Duration(int64_t seconds) {
  constexpr struct {
    int64_t size;
    const char* name;
  } kUnits[] = {{86'400, " d"}, {3'600, " h"}, {60, " min"}, {1, " s"}};
  for (size_t i = 0; i < 4; ++i) {
    if (seconds < kUnits[i].size && i < 3) continue;
    std::string text = std::to_string(seconds / kUnits[i].size) + kUnits[i].name;
    const int64_t rest = seconds % kUnits[i].size;
    if (i < 3 && rest >= kUnits[i + 1].size) {
      text += " " + std::to_string(rest / kUnits[i + 1].size) + kUnits[i + 1].name;
    }
    return text;
  }
  return "";
}

std::string Date(int64_t seconds) {
  const time_t time = seconds;
  tm parts{};
  char text[32] = "";
  if (gmtime_r(&time, &parts) != nullptr) strftime(text, sizeof(text), "%Y-%m-%d", &parts);
  return text;
}

std::string Heading(const ordered_json& status) {
  std::string out = "tlsbroker " + TextOf(status.at("version")) + ", " +
                    TextOf(status.at("state")) + ", up " + Duration(status.at("uptime_seconds")) +
                    ", " + TextOf(status.at("config")) + "\n";
  const auto& reload = status.at("last_reload");
  if (!reload.is_null() && !reload.at("ok")) {
    const int64_t now =
        status.at("started").get<int64_t>() + status.at("uptime_seconds").get<int64_t>();
    out += "The last reload failed, " + Duration(now - reload.at("time").get<int64_t>()) +
           " ago; the configuration from before is in force.\n";
    for (const auto& error : reload.at("errors")) out += "  " + TextOf(error) + "\n";
  }
  return out;
}

// "0.0.0.0:443", "0.0.0.0:443 (not yet)".
std::string Addresses(const ordered_json& service) {
  std::string out;
  const auto& missing = service.at("not_listening");
  for (const auto& address : service.at("listen")) {
    const bool waits = std::ranges::find(missing, address) != missing.end();
    out += (out.empty() ? "" : " ") + TextOf(address) + (waits ? " (not yet)" : "");
  }
  return out;
}

// "2 of 2", "0 of 1 on demand", "3 attached".
std::string Workers(const ordered_json& service) {
  const auto& worker = service.at("worker");
  if (worker.is_null()) return std::to_string(service.at("attached").size()) + " attached";
  std::string text =
      std::to_string(worker.at("running").size()) + " of " + TextOf(worker.at("count"));
  if (worker.at("start") == "on-demand") text += " on demand";
  if (worker.at("restarts") != 0) text += ", restarts: " + TextOf(worker.at("restarts"));
  return text;
}

std::string Services(const ordered_json& status) {
  std::vector<Row> rows = {
      {"SERVICE", "STATE", "LISTEN", "KTLS", "DIRECT", "RELAY", "WHY RELAY", "WAITING", "WORKERS"}};
  for (const auto& service : status.at("services")) {
    const auto& queue = service.at("queue");
    rows.push_back({TextOf(service.at("name")), TextOf(service.at("state")), Addresses(service),
                    TextOf(service.at("ktls")), TextOf(service.at("direct")),
                    TextOf(service.at("relay")), TextOf(service.at("last_reason")),
                    TextOf(queue.at("waiting")) + " of " + TextOf(queue.at("capacity")),
                    Workers(service)});
  }
  return Align(rows);
}

std::string Processes(const ordered_json& status) {
  std::vector<Row> rows = {{"PROCESS", "SERVICE", "GENERATION", "PID", "STATE"}};
  for (const auto& process : status.at("processes")) {
    std::string state = TextOf(process.at("state"));
    if (!process.at("silent_ms").is_null())
      state += ", silent for " + TextOf(process.at("silent_ms")) + " ms";
    rows.push_back({TextOf(process.at("role")), TextOf(process.at("service")),
                    TextOf(process.at("generation")), TextOf(process.at("pid")), std::move(state)});
  }
  for (const auto& service : status.at("services")) {
    if (service.at("worker").is_null()) continue;
    for (const auto& worker : service.at("worker").at("running")) {
      rows.push_back({"worker", TextOf(service.at("name")), "-", TextOf(worker.at("pid")),
                      "up " + Duration(worker.at("seconds"))});
    }
  }
  return Align(rows);
}

// Lines about services whose processes have hung.
std::string Hung(const ordered_json& status) {
  std::string out;
  for (const auto& service : status.at("services")) {
    if (service.at("hung") == 0 && service.at("left_behind") == 0) continue;
    out += "Service " + TextOf(service.at("name")) +
           ": processes that hung and were replaced: " + TextOf(service.at("hung")) +
           ", that cannot be ended: " + TextOf(service.at("left_behind")) + ".\n";
  }
  return out.empty() ? out : out + "\n";
}

std::string Certificates(const ordered_json& status) {
  std::vector<Row> rows = {{"CERTIFICATE", "VALID UNTIL", "DAYS LEFT"}};
  for (const auto& certificate : status.at("certificates")) {
    const int64_t days = certificate.at("days_left");
    rows.push_back({TextOf(certificate.at("name")), Date(certificate.at("not_after")),
                    days < 0 ? "expired" : std::to_string(days)});
  }
  return Align(rows);
}

std::string Counters(const ordered_json& status) {
  const auto& counters = status.at("counters");
  const auto count = [&counters](const char* name) { return TextOf(counters.at(name)); };
  return Align(
      {{"HANDSHAKES", "full", count("handshakes_full"), "resumed", count("handshakes_resumed"),
        "failed", count("handshakes_failed"), "timed out", count("handshakes_timed_out"),
        "under way", count("handshakes_active")},
       {"REFUSED", "max_handshakes", count("refused_total_limit"), "max_handshakes_per_source",
        count("refused_source_limit"), "max_relayed", count("refused_relay_limit"), "kTLS required",
        count("refused_ktls_required"), "signatures", count("sign_failed")},
       {"KEY UPDATES", "done", count("rekeyed"), "refused", count("rekey_refused")},
       {"ASKED FOR", "opened", count("opened"), "failed", count("open_failed")}});
}

// One line for each reason.
std::string KernelSuites(const ordered_json& status) {
  std::map<std::string, std::string> suites;  // by reason
  for (const auto& suite : status.at("kernel_tls")) {
    if (suite.at("reason").is_null()) continue;
    std::string& list = suites[TextOf(suite.at("reason"))];
    list += (list.empty() ? "" : ", ") + TextOf(suite.at("suite"));
  }
  if (suites.empty()) return "Kernel TLS takes all suites.\n";
  std::string out;
  for (const auto& [reason, list] : suites) {
    out += "Not in the kernel (" + reason + "): " + list + ".\n";
  }
  return out;
}

std::string Missing(const ordered_json& status) {
  std::string out;
  for (const auto& part : status.at("confinement_missing")) {
    out += "Confinement lacks here, for " + TextOf(part.at("who")) + ": " +
           TextOf(part.at("what")) + ".\n";
  }
  return out.empty() ? "Confinement is complete.\n" : out;
}

}  // namespace

std::string FormatStatus(const ordered_json& status) {
  return Heading(status) + "\n" + Services(status) + "\n" + Processes(status) + "\n" +
         Hung(status) + Certificates(status) + "\n" + Counters(status) + "\n" +
         KernelSuites(status) + Missing(status);
}

}  // namespace tlsbroker::tools
