// SPDX-License-Identifier: Apache-2.0
// The small languages inside configuration values: durations, listen addresses, where a certificate
// or a key is. Pure functions of text, run in the supervisor on what the administrator wrote.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONFIG_VALUES_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONFIG_VALUES_H_

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <variant>

#include "protocol/handoff.h"
#include "protocol/modes.h"

namespace tlsbroker::supervisor {

// A complaint: what is wrong with a value and what would be right.
struct Complaint {
  std::string wrong;
  std::string right;
};

template <typename T>
using Parsed = std::variant<T, Complaint>;

inline constexpr std::chrono::hours kDay{24};
inline constexpr std::chrono::hours kLongestDuration = 365 * kDay;

// "5s", "500ms", "2m", "1h", "7d": a whole number and a unit, at least 1 ms and at most `longest`,
// which is a number of days.
Parsed<std::chrono::milliseconds> ParseDuration(std::string_view text,
                                                std::chrono::hours longest = kLongestDuration);

// "4096", "512K", "64M", "1G": bytes, in powers of 1024, at least one page.
Parsed<uint64_t> ParseSize(std::string_view text);

// Sockets that the service manager passed by that name (sd_listen_fds_with_names(3)).
struct SystemdSocket {
  std::string name;
  friend bool operator==(const SystemdSocket&, const SystemdSocket&) = default;
};

using ListenAddress = std::variant<handoff::Endpoint, SystemdSocket>;

// "192.0.2.1:443", "[2001:db8::1]:443" or "systemd:NAME". Never a host name: the broker has no DNS.
Parsed<ListenAddress> ParseListenAddress(std::string_view text);
std::string ToString(const ListenAddress& address);
// Equal for all addresses that can overlap.
std::string PortOf(const ListenAddress& address);
// Whether nobody can listen on both: they are equal, or one is "0.0.0.0" or "[::]".
bool Overlap(const ListenAddress& a, const ListenAddress& b);

// The same without "systemd:NAME".
Parsed<handoff::Endpoint> ParseAddress(std::string_view text);

// "redis.example.org", "192.0.2.1": what a server's certificate can be for.
Parsed<std::string> ParseServerName(std::string_view text);

// "sha256//BASE64", as curl's --pinnedpubkey: 32 bytes.
Parsed<supervision::Pin> ParsePin(std::string_view text);

struct Source {
  enum class Kind {
    kPath,        // an absolute path
    kCredential,  // a file in $CREDENTIALS_DIRECTORY
    kUri,         // for the keyholder's OSSL_STORE
  };
  Kind kind = Kind::kPath;
  std::string text;  // the path, the credential's name, or the whole URI
  friend bool operator==(const Source&, const Source&) = default;
};

Parsed<Source> ParseSource(std::string_view text);

// Service names become file names, fd names and log fields; certificate names only log fields.
bool IsServiceName(std::string_view name);
bool IsCertificateName(std::string_view name);

// Of an environment: letters, digits and _, no digit in front.
bool IsVariableName(std::string_view name);
// Whether the broker sets the variable for its workers, or for each program that `exec` starts.
bool IsReservedVariable(std::string_view name, bool of_exec);

// The text with ${NAME} and ${NAME:-default} replaced: as compose and systemd have it, of several $
// in front of a brace each two are one that stays. All other $ stay as they are. `value_of` gives a
// variable's value, or null.
using ValueOf = std::function<const char*(const std::string& name)>;
Parsed<std::string> ExpandVariables(std::string_view text, const ValueOf& value_of);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONFIG_VALUES_H_
