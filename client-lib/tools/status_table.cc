#include "client-lib/tools/status_table.h"

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "client-lib/tools/table.h"

namespace tlsbroker::tools {
namespace {

using nlohmann::ordered_json;

std::string Text(const ordered_json& value) {
  if (value.is_null()) return "-";
  return Printable(value.is_string() ? value.get<std::string>() : value.dump());
}

std::string Joined(const ordered_json& list, const char* separator) {
  std::string out;
  for (const auto& value : list) out += (out.empty() ? "" : separator) + Text(value);
  return out.empty() ? "-" : out;
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
  std::string out = "tlsbroker " + Text(status.at("version")) + ", " + Text(status.at("state")) +
                    ", generation " + Text(status.at("generation")) + ", up " +
                    Duration(status.at("uptime_seconds")) + ", " + Text(status.at("config")) + "\n";
  const auto& reload = status.at("last_reload");
  if (!reload.is_null() && !reload.at("ok")) {
    const int64_t now =
        status.at("started").get<int64_t>() + status.at("uptime_seconds").get<int64_t>();
    out += "The last reload failed, " + Duration(now - reload.at("time").get<int64_t>()) +
           " ago; the configuration from before is in force.\n";
    for (const auto& error : reload.at("errors")) out += "  " + Text(error) + "\n";
  }
  return out;
}

// "2 of 2", "0 of 1 on demand", "3 attached".
std::string Workers(const ordered_json& service) {
  const auto& worker = service.at("worker");
  if (worker.is_null()) return std::to_string(service.at("attached").size()) + " attached";
  std::string text =
      std::to_string(worker.at("running").size()) + " of " + Text(worker.at("count"));
  if (worker.at("start") == "on-demand") text += " on demand";
  if (worker.at("restarts") != 0) text += ", restarts: " + Text(worker.at("restarts"));
  return text;
}

std::string Services(const ordered_json& status) {
  std::vector<Row> rows = {
      {"SERVICE", "LISTEN", "KTLS", "DIRECT", "RELAY", "WHY RELAY", "WAITING", "WORKERS"}};
  for (const auto& service : status.at("services")) {
    const auto& queue = service.at("queue");
    rows.push_back(
        {Text(service.at("name")), Joined(service.at("listen"), " "), Text(service.at("ktls")),
         Text(service.at("direct")), Text(service.at("relay")), Text(service.at("last_reason")),
         Text(queue.at("waiting")) + " of " + Text(queue.at("capacity")), Workers(service)});
  }
  return Align(rows);
}

std::string Processes(const ordered_json& status) {
  std::vector<Row> rows = {{"PROCESS", "GENERATION", "PID", "STATE"}};
  for (const auto& process : status.at("processes")) {
    rows.push_back({Text(process.at("role")), Text(process.at("generation")),
                    Text(process.at("pid")), Text(process.at("state"))});
  }
  for (const auto& service : status.at("services")) {
    if (service.at("worker").is_null()) continue;
    for (const auto& worker : service.at("worker").at("running")) {
      rows.push_back({"worker of " + Text(service.at("name")), "-", Text(worker.at("pid")),
                      "up " + Duration(worker.at("seconds"))});
    }
  }
  return Align(rows);
}

std::string Certificates(const ordered_json& status) {
  std::vector<Row> rows = {{"CERTIFICATE", "VALID UNTIL", "DAYS LEFT"}};
  for (const auto& certificate : status.at("certificates")) {
    const int64_t days = certificate.at("days_left");
    rows.push_back({Text(certificate.at("name")), Date(certificate.at("not_after")),
                    days < 0 ? "expired" : std::to_string(days)});
  }
  return Align(rows);
}

std::string Counters(const ordered_json& status) {
  const auto& counters = status.at("counters");
  const auto count = [&counters](const char* name) { return Text(counters.at(name)); };
  return Align(
      {{"HANDSHAKES", "full", count("handshakes_full"), "resumed", count("handshakes_resumed"),
        "failed", count("handshakes_failed"), "timed out", count("handshakes_timed_out"),
        "under way", count("handshakes_active")},
       {"REFUSED", "all", count("refused_total_limit"), "per source", count("refused_source_limit"),
        "relays", count("refused_relay_limit"), "kTLS required", count("refused_ktls_required"),
        "signatures", count("sign_failed")},
       {"KEY UPDATES", "done", count("rekeyed"), "refused", count("rekey_refused")},
       {"ASKED FOR", "opened", count("opened"), "failed", count("open_failed")}});
}

// One line for each reason.
std::string KernelSuites(const ordered_json& status) {
  std::map<std::string, std::string> suites;  // by reason
  for (const auto& suite : status.at("kernel_tls")) {
    if (suite.at("reason").is_null()) continue;
    std::string& list = suites[Text(suite.at("reason"))];
    list += (list.empty() ? "" : ", ") + Text(suite.at("suite"));
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
    out += "Confinement lacks here, for " + Text(part.at("who")) + ": " + Text(part.at("what")) +
           ".\n";
  }
  return out.empty() ? "Confinement is complete.\n" : out;
}

}  // namespace

std::string FormatStatus(const ordered_json& status) {
  return Heading(status) + "\n" + Services(status) + "\n" + Processes(status) + "\n" +
         Certificates(status) + "\n" + Counters(status) + "\n" + KernelSuites(status) +
         Missing(status);
}

}  // namespace tlsbroker::tools
