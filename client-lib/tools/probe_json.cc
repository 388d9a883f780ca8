// SPDX-License-Identifier: Apache-2.0
// The probe's result for programs; tlsbroker-probe(1) describes the members.

#include <algorithm>
#include <cstdio>

#include "client-lib/tools/probe_report.h"

namespace tlsbroker::tools {
namespace {

// RFC 8259 7. Bytes beyond ASCII, which only an interface's name may have, are taken for Latin-1.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      char escape[8];
      snprintf(escape, sizeof(escape), "\\u%04x", byte);
      out += escape;
    }
  }
  return out + "\"";
}

std::string Member(std::string_view name, const std::string& value) {
  return Quoted(name) + ": " + value;
}

const char* Boolean(bool value) { return value ? "true" : "false"; }

std::string Joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += separator;
    out += part;
  }
  return out;
}

std::string Object(const std::vector<std::string>& members) {
  return "{" + Joined(members, ", ") + "}";
}

// One element a line.
std::string Array(const std::vector<std::string>& elements) {
  if (elements.empty()) return "[]";
  return "[\n    " + Joined(elements, ",\n    ") + "\n  ]";
}

std::string ToJson(const Support& support) {
  if (support.ok) return Object({Member("ok", "true")});
  return Object({Member("ok", "false"), Member("reason", Quoted(support.reason)),
                 Member("detail", Quoted(support.detail))});
}

std::string ToJson(const Combination& each) {
  return Object({Member("version", Quoted(each.version)), Member("suite", Quoted(each.suite)),
                 Member("tx", ToJson(each.tx)), Member("rx", ToJson(each.rx)),
                 Member("openssl_offers", Boolean(each.openssl_offers)),
                 Member("direct", Boolean(each.direct()))});
}

std::string ToJson(const Interface& interface) {
  std::vector<std::string> members = {Member("name", Quoted(interface.name))};
  for (size_t i = 0; i < kTlsFeatures.size(); ++i) {
    const auto& state = interface.features[i];
    members.push_back(
        Member(kTlsFeatures[i], !state ? "null"
                                       : Object({Member("on", Boolean(state->on)),
                                                 Member("fixed", Boolean(state->fixed))})));
  }
  return Object(members);
}

template <typename T>
std::string ToJson(const std::vector<T>& list) {
  std::vector<std::string> elements;
  elements.reserve(list.size());
  for (const T& each : list) elements.push_back(ToJson(each));
  return Array(elements);
}

}  // namespace

std::string FormatJson(const ProbeReport& report) {
  const std::vector<std::string> members = {
      Member("kernel", Quoted(report.kernel)),
      Member("openssl", Quoted(report.openssl)),
      Member("ulp", ToJson(report.ulp)),
      Member("combinations", ToJson(report.combinations)),
      Member("rekey", Object({Member("tx", ToJson(report.rekey_tx)),
                              Member("rx", ToJson(report.rekey_rx))})),
      Member("interfaces", ToJson(report.interfaces)),
      Member("conclusion", Quoted(Conclusion(report))),
  };
  return "{\n  " + Joined(members, ",\n  ") + "\n}\n";
}

}  // namespace tlsbroker::tools
