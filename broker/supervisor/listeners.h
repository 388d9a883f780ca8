// Listening sockets: opened here or passed by the service manager, and kept over a reload as long
// as some service listens on that address. Runs in the supervisor, which never accepts.

#ifndef TLSBROKER_BROKER_SUPERVISOR_LISTENERS_H_
#define TLSBROKER_BROKER_SUPERVISOR_LISTENERS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

using SharedFd = std::shared_ptr<const UniqueFd>;

// What the service manager passed (sd_listen_fds(3)): name and socket.
using InheritedSockets = std::vector<std::pair<std::string, SharedFd>>;

// Takes the descriptors and the environment variables that came with them. An error if one of them
// is no listening TCP socket. Before anything else opens a descriptor.
absl::StatusOr<InheritedSockets> TakeInheritedSockets();

struct Listener {
  size_t service = 0;  // index into Config::services
  ListenAddress address;
  SharedFd socket;
};

// Sockets of `previous` for the same address are used again.
std::vector<Listener> OpenListeners(const Config& config, const InheritedSockets& inherited,
                                    const std::vector<Listener>& previous,
                                    Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LISTENERS_H_
