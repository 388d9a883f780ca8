// SPDX-License-Identifier: Apache-2.0
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
// is no listening TCP socket. To be called before anything else opens a descriptor.
absl::StatusOr<InheritedSockets> TakeInheritedSockets();

struct Listener {
  ListenAddress address;
  SharedFd socket;
  std::string service;  // whose processes have it, or will
};

// An address that cannot be listened on yet, and is tried again until it can:
// - At the start, when another program still has the port, or the machine does not have the address
//   yet. At boot both come and go.
// - At any time, when nobody listens, and yet bind(2) fails: a connection from before has the
// address
//   and does not share it. A worker with a direct connection can forbid sharing (SO_REUSEADDR, 0),
//   and keeps the address as long as it likes; after that the connection's TIME_WAIT does.
// Everything else starts all the same.
struct MissingListener {
  At<ListenAddress> address;
  int error = 0;  // of bind(2)
};

// What is wrong, and what would help.
Complaint WhyMissing(const MissingListener& missing);

struct Listeners {
  std::vector<Listener> open;
  std::vector<MissingListener> missing;
};

// Opens the listeners of one service. Sockets in `own`, which the service had before, are used
// again for the same address. A socket in `others` never is, since processes of another service
// still have it: the address gets another socket beside it, which listens from StartListening() on.
// The service manager's sockets are used as they are. `leaving` are the listeners, of all services,
// that the new setup does not have any more. `missing` are the addresses that the service was
// already waiting for, and null at the start, when each may be waited for.
Listeners OpenListeners(const ServiceConfig& service, const InheritedSockets& inherited,
                        const std::vector<Listener>& own, const std::vector<Listener>& others,
                        const std::vector<Listener>& leaving,
                        const std::vector<MissingListener>* missing, Diagnostics& diagnostics);

// Tries a missing address again. Null, and errno is set, if it is still missing.
SharedFd OpenMissing(const ListenAddress& address, const ServiceConfig& service);

// To be called after all that other services had on the address was shut down.
void StartListening(const Listener& listener);

// Whether it still listens. Whoever has a listening socket can shut it down for all who have it
// (shutdown(2)), a handshaker that was taken over as well.
bool Listens(const Listener& listener);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LISTENERS_H_
