// SPDX-License-Identifier: Apache-2.0
// The servers that workers may have dialled: the connection to one, and the certificates that vouch
// for it. Connects to addresses of the configuration and sends nothing. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_UPSTREAMS_H_
#define TLSBROKER_BROKER_SUPERVISOR_UPSTREAMS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// A file that is only opened here: handshakers read it, before they confine themselves.
struct TrustFile {
  Source source;
  UniqueFd fd;
  std::string identity;
};

struct Trust {
  std::vector<std::shared_ptr<const TrustFile>> files;
  std::optional<uint16_t> general;     // index of [broker] ca_file, or the system's
  std::vector<uint16_t> of_upstreams;  // indices, by upstream
};

// Opens only what the configuration needs.
Trust OpenTrust(const Config& config, Diagnostics& diagnostics);

// Returns at once, with a socket that is connected or connecting. Invalid, and errno is set, on
// failure.
UniqueFd ConnectTo(const handoff::Endpoint& address);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_UPSTREAMS_H_
