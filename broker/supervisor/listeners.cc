#include "broker/supervisor/listeners.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_split.h"
#include "broker/supervisor/socket_address.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

constexpr int kFirstInherited = 3;  // SD_LISTEN_FDS_START
constexpr int kMaxInherited = 4096;

// As much as net.core.somaxconn allows: how many wait is for the service's backlog to say, and that
// pushes back on the handshakers before it fills the kernel's queue.
constexpr int kTcpBacklog = INT32_MAX;

bool Enable(int socket, int level, int option) {
  const int on = 1;
  return setsockopt(socket, level, option, &on, sizeof(on)) == 0;
}

// Invalid and errno on failure.
UniqueFd Listen(const handoff::Endpoint& endpoint) {
  const SocketAddress address = ToSocketAddress(endpoint);
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || !Enable(fd.get(), SOL_SOCKET, SO_REUSEADDR)) return {};
  // "[::]:443" and "0.0.0.0:443" are two listeners, whatever the system's default.
  if (endpoint.ipv6 && !Enable(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY)) return {};
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0)
    return {};
  if (listen(fd.get(), kTcpBacklog) != 0) return {};
  return fd;
}

const char* Advice(int error) {
  switch (error) {
    case EADDRINUSE:
      return "stop the program that listens there (ss -ltnp), or use another port";
    case EADDRNOTAVAIL:
      return "an address of this machine is needed (ip address)";
    case EACCES:
      return "a port from 1024 on, or CAP_NET_BIND_SERVICE, is needed";
    default:
      return "an address that can be listened on is needed";
  }
}

class Opener {
 public:
  Opener(const InheritedSockets& inherited, const std::vector<Listener>& previous,
         Diagnostics& diagnostics)
      : inherited_(inherited), previous_(previous), diagnostics_(diagnostics) {}

  std::vector<SharedFd> Open(const At<ListenAddress>& address) const {
    if (const auto* systemd = std::get_if<SystemdSocket>(&address.value))
      return FindInherited(*systemd, address.position);
    for (const Listener& old : previous_) {
      if (old.address == address.value) return {old.socket};
    }
    UniqueFd fd = Listen(std::get<handoff::Endpoint>(address.value));
    if (fd) return {std::make_shared<const UniqueFd>(std::move(fd))};
    const int error = errno;
    diagnostics_.Error(
        address.position,
        "cannot listen on \"" + ToString(address.value) + "\": " + std::strerror(error),
        Advice(error));
    return {};
  }

 private:
  std::vector<SharedFd> FindInherited(const SystemdSocket& wanted, Position position) const {
    std::vector<SharedFd> found;
    for (const auto& [name, socket] : inherited_) {
      if (name == wanted.name) found.push_back(socket);
    }
    if (found.empty()) {
      diagnostics_.Error(position, "no socket \"" + wanted.name + "\" was passed to the broker",
                         "write FileDescriptorName=" + wanted.name + " in the socket unit");
    }
    return found;
  }

  const InheritedSockets& inherited_;
  const std::vector<Listener>& previous_;
  Diagnostics& diagnostics_;
};

int NumberFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  int number = -1;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
}

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

absl::Status CheckInherited(int fd, const std::string& name) {
  const int domain = SocketOption(fd, SO_DOMAIN);
  const bool tcp =
      (domain == AF_INET || domain == AF_INET6) && SocketOption(fd, SO_PROTOCOL) == IPPROTO_TCP;
  if (!tcp || SocketOption(fd, SO_ACCEPTCONN) != 1) {
    return absl::InvalidArgumentError("the socket \"" + name +
                                      "\" that was passed to the broker is not a listening TCP "
                                      "socket; ListenStream= with an address and a port is needed");
  }
  const int flags = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return ErrnoStatus("preparing the socket \"" + name + "\"");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<InheritedSockets> TakeInheritedSockets() {
  const bool ours = NumberFromEnvironment("LISTEN_PID") == getpid();
  const int count = std::min(NumberFromEnvironment("LISTEN_FDS"), kMaxInherited);
  const char* text = std::getenv("LISTEN_FDNAMES");
  const std::vector<std::string> names = absl::StrSplit(text == nullptr ? "" : text, ':');
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"})
    unsetenv(name);

  InheritedSockets sockets;
  for (int i = 0; ours && i < count; ++i) {
    const auto index = static_cast<size_t>(i);
    const std::string name = index < names.size() ? names[index] : "unknown";
    auto fd = std::make_shared<const UniqueFd>(kFirstInherited + i);
    RETURN_IF_ERROR(CheckInherited(fd->get(), name));
    sockets.emplace_back(name, std::move(fd));
  }
  return sockets;
}

std::vector<Listener> OpenListeners(const Config& config, const InheritedSockets& inherited,
                                    const std::vector<Listener>& previous,
                                    Diagnostics& diagnostics) {
  const Opener opener(inherited, previous, diagnostics);
  std::vector<Listener> listeners;
  for (size_t service = 0; service < config.services.size(); ++service) {
    for (const auto& address : config.services[service].listen) {
      for (SharedFd& socket : opener.Open(address))
        listeners.push_back({service, address.value, std::move(socket)});
    }
  }
  return listeners;
}

}  // namespace tlsbroker::supervisor
