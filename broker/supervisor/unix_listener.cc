#include "broker/supervisor/unix_listener.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {

absl::StatusOr<UnixListener> UnixListener::Open(std::string path, int type, mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": longer than the ", sizeof(address.sun_path) - 1, " bytes of a socket's name"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoStatus("socket");
  (void)unlink(path.c_str());
  // The name gets the mode of the socket, less what umask(2) takes away: nobody ever finds it with
  // another mode, neither a stranger nor a worker that attaches again at once.
  if (fchmod(socket.get(), mode) != 0) return ErrnoStatus(path);
  const mode_t usual = umask(0);
  const int bound =
      bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  umask(usual);
  if (bound != 0 || listen(socket.get(), SOMAXCONN) != 0) {
    return ErrnoStatus(path);
  }
  return UnixListener(std::move(path), std::move(socket));
}

UnixListener::~UnixListener() {
  if (socket_) (void)unlink(path_.c_str());
}

UniqueFd UnixListener::Accept() const {
  return UniqueFd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

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

}  // namespace tlsbroker::supervisor
