// SPDX-License-Identifier: Apache-2.0
#include "broker/porter/peer.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "broker/support/status.h"

namespace tlsbroker::porter {

absl::StatusOr<Peer> Peer::Of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return ErrnoStatus("SO_PEERCRED");
  }
  std::vector<gid_t> groups(64);
  size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (result != 0 && errno == ERANGE) {  // `size` now says how many bytes it takes
    groups.resize(size / sizeof(gid_t));
    result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  if (result != 0) return ErrnoStatus("SO_PEERGROUPS");
  groups.resize(size / sizeof(gid_t));
  groups.push_back(credentials.gid);
  return Peer{credentials.pid, credentials.uid, std::move(groups)};
}

}  // namespace tlsbroker::porter
