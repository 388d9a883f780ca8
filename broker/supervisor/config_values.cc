// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/config_values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

constexpr size_t kLongestName = 64;

std::string InQuotes(std::string_view text) { return "\"" + std::string(text) + "\""; }

// Digits only: from_chars alone would take a minus sign, and stop at the first letter.
std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);  // NOLINT: ends at `end`
  if (text.empty() || error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<milliseconds> Unit(std::string_view unit) {
  if (unit == "ms") return milliseconds(1);
  if (unit == "s") return std::chrono::seconds(1);
  if (unit == "m") return std::chrono::minutes(1);
  if (unit == "h") return std::chrono::hours(1);
  if (unit == "d") return kDay;
  return std::nullopt;
}

bool LooksLikeHostName(std::string_view host) {
  return std::ranges::any_of(host, [](char c) { return (c >= 'g' && c <= 'z') || c == '-'; }) ||
         host == "localhost";
}

Complaint BadAddress(std::string_view text) {
  if (text.starts_with("unix:") || text.starts_with('/')) {
    return {
        InQuotes(text) + " is no TCP address",
        "the broker listens on TCP and connects by TCP only: write \"127.0.0.1:443\", for example"};
  }
  return {InQuotes(text) + " is not an address and a port",
          "write \"192.0.2.1:443\", \"[2001:db8::1]:443\" or \"systemd:NAME\""};
}

Complaint BadHost(std::string_view text, std::string_view host) {
  if (host.find('%') != std::string_view::npos) {
    return {InQuotes(text) + " has the name of an interface",
            "an address without it is needed; a socket unit can have one, see \"systemd:NAME\""};
  }
  if (LooksLikeHostName(host) && !text.starts_with("unix:")) {
    return {InQuotes(text) + " has a host name, and there is no DNS in the broker",
            "write an address, such as \"127.0.0.1:443\" or \"[::]:443\""};
  }
  return BadAddress(text);
}

struct HostPort {
  std::string host;
  std::string_view port;
  bool ipv6 = false;
};

std::optional<HostPort> SplitHostPort(std::string_view text) {
  if (text.starts_with('[')) {
    const size_t end = text.find("]:");
    if (end == std::string_view::npos) return std::nullopt;
    return HostPort{std::string(text.substr(1, end - 1)), text.substr(end + 2), true};
  }
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  if (text.find(':', colon + 1) != std::string_view::npos) return std::nullopt;
  return HostPort{std::string(text.substr(0, colon)), text.substr(colon + 1), false};
}

Parsed<ListenAddress> ParseSystemdName(std::string_view text, std::string_view name) {
  // As systemd.socket(5) restricts FileDescriptorName=.
  const bool good = !name.empty() && name.size() <= 255 && std::ranges::none_of(name, [](char c) {
    return c == ':' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (!good) {
    return Complaint{InQuotes(text) + " has no usable socket name",
                     "write \"systemd:NAME\" with the FileDescriptorName= of the socket unit"};
  }
  return ListenAddress(SystemdSocket{std::string(name)});
}

bool HasScheme(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon < 2) return false;
  return std::ranges::all_of(text.substr(0, colon), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '-' || c == '.';
  });
}

// `inside` is what stands between the braces.
Parsed<std::string> Variable(std::string_view inside, const ValueOf& value_of) {
  const std::string whole = "\"${" + std::string(inside) + "}\"";
  const size_t colon = inside.find(":-");
  const std::string name(inside.substr(0, colon));
  if (!IsVariableName(name) || inside.find("${") != std::string_view::npos) {
    return Complaint{
        whole + " names no variable of the environment",
        "write \"${NAME}\" or \"${NAME:-default}\", or \"$${\" for a \"${\" that stays"};
  }
  const char* value = value_of(name);
  if (colon != std::string_view::npos && (value == nullptr || *value == '\0'))
    return std::string(inside.substr(colon + 2));
  if (value != nullptr) return std::string(value);
  return Complaint{"the variable " + name + " is not in the environment of the broker",
                   "set it, write \"${" + name + ":-default}\", or \"$${" + name +
                       "}\" for a \"${" + name + "}\" that stays"};
}

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

}  // namespace

Parsed<milliseconds> ParseDuration(std::string_view text, std::chrono::hours longest) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseNumber(text.substr(0, digits));
  const auto unit = Unit(text.substr(digits));
  if (!number || !unit) {
    return Complaint{InQuotes(text) + " is not a duration",
                     "write a whole number and one of ms, s, m, h, d, such as \"500ms\" or \"5s\""};
  }
  if (*number == 0 || *number > static_cast<uint64_t>(longest / *unit)) {
    return Complaint{InQuotes(text) + " is out of range",
                     "\"1ms\" to \"" + std::to_string(longest / kDay) + "d\" is possible"};
  }
  return milliseconds(*unit * static_cast<int64_t>(*number));
}

Parsed<uint64_t> ParseSize(std::string_view text) {
  constexpr std::string_view kUnits = "KMG";
  constexpr uint64_t kLeast = 4096;
  constexpr uint64_t kMost = uint64_t{1} << 50;
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseNumber(text.substr(0, digits));
  const std::string_view unit = text.substr(digits);
  const size_t power = unit.empty() ? 0 : kUnits.find(unit) + 1;  // 0: no unit, or an unknown one
  if (!number || unit.size() > 1 || (power == 0 && !unit.empty())) {
    return Complaint{InQuotes(text) + " is not a size",
                     "write a whole number and one of K, M, G, such as \"64M\""};
  }
  const uint64_t factor = uint64_t{1} << (10 * power);
  if (*number > kMost / factor || *number * factor < kLeast) {
    return Complaint{InQuotes(text) + " is out of range", "\"4K\" and more is possible"};
  }
  return *number * factor;
}

Parsed<ListenAddress> ParseListenAddress(std::string_view text) {
  constexpr std::string_view kSystemd = "systemd:";
  if (text.starts_with(kSystemd)) return ParseSystemdName(text, text.substr(kSystemd.size()));

  const auto parts = SplitHostPort(text);
  if (!parts) return BadAddress(text);
  handoff::Endpoint endpoint;
  endpoint.ipv6 = parts->ipv6;
  if (inet_pton(parts->ipv6 ? AF_INET6 : AF_INET, parts->host.c_str(), endpoint.address.data()) !=
      1)
    return BadHost(text, parts->host);
  const auto port = ParseNumber(parts->port);
  if (!port || *port == 0 || *port > 65535) {
    return Complaint{InQuotes(text) + " has no possible port",
                     "a port is a number from 1 to 65535"};
  }
  endpoint.port = static_cast<uint16_t>(*port);
  return ListenAddress(endpoint);
}

Parsed<handoff::Endpoint> ParseAddress(std::string_view text) {
  auto parsed = ParseListenAddress(text);
  if (auto* complaint = std::get_if<Complaint>(&parsed)) return std::move(*complaint);
  const ListenAddress& address = std::get<ListenAddress>(parsed);
  if (const auto* endpoint = std::get_if<handoff::Endpoint>(&address)) return *endpoint;
  return Complaint{InQuotes(text) + " is nothing to connect to",
                   "write an address and a port, such as \"192.0.2.1:443\""};
}

Parsed<std::string> ParseServerName(std::string_view text) {
  std::string name(text);
  in6_addr any;
  if (inet_pton(AF_INET, name.c_str(), &any) == 1 || inet_pton(AF_INET6, name.c_str(), &any) == 1)
    return name;
  const auto is_label = [](absl::string_view label) {
    return !label.empty() && label.size() <= 63 && std::ranges::all_of(label, [](char c) {
      return IsLowerOrDigit(c) || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
    });
  };
  // A leading dot would make OpenSSL take every name below.
  const std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  if (name.size() <= 253 && std::ranges::all_of(labels, is_label)) return name;
  return Complaint{InQuotes(text) + " is no host name",
                   "write the name or the address that the certificate has"};
}

Parsed<supervision::Pin> ParsePin(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256//";
  std::string digest;
  supervision::Pin pin{};
  if (text.starts_with(kPrefix) &&
      absl::Base64Unescape(std::string(text.substr(kPrefix.size())), &digest) &&
      digest.size() == pin.size()) {
    std::ranges::copy(digest, pin.begin());
    return pin;
  }
  return Complaint{InQuotes(text) + " is no pin",
                   "write \"sha256//\" and the base64 of the SHA-256 of the server's public key"};
}

std::string ToString(const ListenAddress& address) {
  if (const auto* endpoint = std::get_if<handoff::Endpoint>(&address)) return endpoint->ToString();
  return "systemd:" + std::get<SystemdSocket>(address).name;
}

std::string PortOf(const ListenAddress& address) {
  const auto* endpoint = std::get_if<handoff::Endpoint>(&address);
  if (endpoint == nullptr) return ToString(address);
  return (endpoint->ipv6 ? "6:" : "4:") + std::to_string(endpoint->port);
}

bool Overlap(const ListenAddress& a, const ListenAddress& b) {
  const auto is_wildcard = [](const ListenAddress& address) {
    const auto* endpoint = std::get_if<handoff::Endpoint>(&address);
    return endpoint != nullptr &&
           std::ranges::all_of(endpoint->address, [](auto byte) { return byte == 0; });
  };
  return PortOf(a) == PortOf(b) && (a == b || is_wildcard(a) || is_wildcard(b));
}

Parsed<Source> ParseSource(std::string_view text) {
  constexpr std::string_view kCredential = "cred:";
  if (text.starts_with('/')) return Source{Source::Kind::kPath, std::string(text)};
  if (text.starts_with(kCredential)) {
    const std::string_view name = text.substr(kCredential.size());
    if (name.empty() || name.find('/') != std::string_view::npos || name == "." || name == "..") {
      return Complaint{InQuotes(text) + " names no credential",
                       "write \"cred:NAME\" with the NAME of LoadCredential="};
    }
    return Source{Source::Kind::kCredential, std::string(name)};
  }
  if (HasScheme(text)) return Source{Source::Kind::kUri, std::string(text)};
  return Complaint{InQuotes(text) + " is a relative path",
                   "write it from the root, beginning with /"};
}

bool IsServiceName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, [](char c) {
    return IsLowerOrDigit(c) || c == '-' || c == '_';
  });
}

bool IsCertificateName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, [](char c) {
    return IsLowerOrDigit(c) || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.';
  });
}

bool IsVariableName(std::string_view name) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && !is_digit(name.front()) && std::ranges::all_of(name, [](char c) {
    return IsLowerOrDigit(c) || (c >= 'A' && c <= 'Z') || c == '_';
  });
}

bool IsReservedVariable(std::string_view name, bool of_exec) {
  // Those of a connection are in client-lib/tools/exec/environment.cc.
  constexpr std::string_view kOfConnections[] = {"PROTO",        "TCPLOCALIP",  "TCPLOCALPORT",
                                                 "TCPREMOTEIP",  "REMOTE_ADDR", "REMOTE_PORT",
                                                 "TCPREMOTEPORT"};
  if (name.starts_with("LISTEN_") || name.starts_with("TLSBROKER_")) return true;
  return of_exec && (name.starts_with("SSL_") ||
                     std::ranges::find(kOfConnections, name) != std::end(kOfConnections));
}

Parsed<std::string> ExpandVariables(std::string_view text, const ValueOf& value_of) {
  std::string expanded;
  for (;;) {
    const size_t last = text.find("${");
    if (last == std::string_view::npos) return expanded.append(text);
    const size_t first = text.find_last_not_of('$', last) + 1;  // npos + 1 is 0
    const size_t dollars = last + 1 - first;
    expanded.append(text.substr(0, first)).append(dollars / 2, '$');
    text.remove_prefix(last + 2);
    if (dollars % 2 == 0) {
      expanded += '{';
      continue;
    }
    const size_t end = text.find('}');
    if (end == std::string_view::npos) {
      return Complaint{"\"${\" without a \"}\"",
                       "write \"${NAME}\", or \"$${\" for a \"${\" that stays"};
    }
    auto value = Variable(text.substr(0, end), value_of);
    if (std::holds_alternative<Complaint>(value)) return value;
    expanded += std::get<std::string>(value);
    text.remove_prefix(end + 1);
  }
}

}  // namespace tlsbroker::supervisor
