// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/listeners.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "absl/strings/str_split.h"
#include "broker/supervisor/elsewhere.h"
#include "broker/supervisor/socket_address.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

constexpr int kFirstInherited = 3;  // SD_LISTEN_FDS_START
constexpr int kMaxInherited = 4096;

// As much as net.core.somaxconn allows. The service's backlog decides how many connections wait:
// when its queue is full the handshakers stop accepting, and only then the kernel's queue fills.
constexpr int kTcpBacklog = INT32_MAX;

bool Enable(int socket, int level, int option) {
  const int on = 1;
  return setsockopt(socket, level, option, &on, sizeof(on)) == 0;
}

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

// From StartListening() until this is called, no other socket can bind(2) beside `fd`.
bool ShareAddress(int fd, int on) {
  return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0;
}

// Returns an invalid descriptor and sets errno on failure. With `beside`, other sockets have the
// address already, and share it. With `freebind` the machine need not have the address (ip(7)).
UniqueFd Listen(const handoff::Endpoint& endpoint, bool beside, bool freebind) {
  const SocketAddress address = ToSocketAddress(endpoint);
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || !Enable(fd.get(), SOL_SOCKET, SO_REUSEADDR)) return {};
  // "[::]:443" and "0.0.0.0:443" are two listeners, whatever the system's default.
  if (endpoint.ipv6 && !Enable(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY)) return {};
  if (freebind && !(endpoint.ipv6 ? Enable(fd.get(), IPPROTO_IPV6, IPV6_FREEBIND)
                                  : Enable(fd.get(), IPPROTO_IP, IP_FREEBIND)))
    return {};
  // All sockets of the address have to set this (inet_csk_bind_conflict in net/ipv4), until
  // StartListening().
  if (beside && !Enable(fd.get(), SOL_SOCKET, SO_REUSEPORT)) return {};
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0)
    return {};
  if (beside) return fd;
  if (listen(fd.get(), kTcpBacklog) != 0) return {};
  return fd;
}

// Ends a socket that was opened here. Shutting it down frees the port at once, though a process
// that ends may still have a copy: with SO_REUSEADDR, socket(7), only sockets that listen keep an
// address. A socket that somebody else shut down may be connected by now, and linger when it is
// closed, so all of this is done elsewhere.
class StopListening {
 public:
  explicit StopListening(std::string service) : service_(std::move(service)) {}

  void operator()(const UniqueFd* socket) const {
    // Share() made it, and not const.
    const std::unique_ptr<UniqueFd> last(const_cast<UniqueFd*>(socket));
    (void)DoAndCloseElsewhere(std::move(*last), ShutDown, SHUT_RD, service_);
  }

 private:
  static bool ShutDown(int fd, int how) { return shutdown(fd, how) == 0; }

  std::string service_;
};

SharedFd Share(UniqueFd fd, const std::string& service) {
  return {new UniqueFd(std::move(fd)), StopListening(service)};
}

// How many sockets of this network namespace listen on the port, at whatever address. proc(5): each
// line is number, local address with the port in hexadecimal, remote address and state; those that
// listen (0A) come first. Not /proc/net, which the shipped units hide (ProcSubset=). INT_MAX if it
// cannot be known.
int CountListeners(uint16_t port) {
  int count = 0;
  for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream file(table);
    if (!file && std::string_view(table).ends_with("tcp")) return INT_MAX;  // tcp6 may be missing
    std::string line;
    std::getline(file, line);  // names of columns
    while (std::getline(file, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state;
      if (!(fields >> number >> local >> remote >> state) || state != "0A") break;
      if (std::strtoul(local.substr(local.rfind(':') + 1).c_str(), nullptr, 16) == port) ++count;
    }
  }
  return count;
}

const char* Advice(int error) {
  switch (error) {
    case EADDRINUSE:
      return "stop the program that listens there (ss -ltnp), or use another port";
    case EADDRNOTAVAIL:
      return "an address of this machine (ip address) is needed, or freebind = true";
    case EACCES:
      return "a port from 1024 on, or CAP_NET_BIND_SERVICE, is needed";
    default:
      return "an address that can be listened on is needed";
  }
}

class Opener {
 public:
  Opener(const ServiceConfig& service, const InheritedSockets& inherited,
         const std::vector<Listener>& own, const std::vector<Listener>& others,
         const std::vector<Listener>& leaving, const std::vector<MissingListener>* waiting,
         Diagnostics& diagnostics)
      : service_(service),
        inherited_(inherited),
        own_(own),
        others_(others),
        leaving_(leaving),
        waiting_(waiting),
        diagnostics_(diagnostics) {}

  std::vector<SharedFd> Open(const At<ListenAddress>& address,
                             std::vector<MissingListener>& missing) const {
    if (const auto* systemd = std::get_if<SystemdSocket>(&address.value))
      return FindInherited(*systemd, address.position);
    if (const Listener* old = Find(own_, address.value)) return {old->socket};
    const Listener* beside = Find(others_, address.value);
    const auto& endpoint = std::get<handoff::Endpoint>(address.value);
    const bool let_in =
        beside == nullptr || DoElsewhere(beside->socket->get(), ShareAddress, 1, beside->service);
    errno = EADDRINUSE;  // if somebody holds the lock of the socket that has the address
    UniqueFd fd = let_in ? Listen(endpoint, beside != nullptr, service_.freebind) : UniqueFd();
    if (fd) return {Share(std::move(fd), service_.name.value)};
    const int error = errno;
    if (!let_in || MayWait(address.value, endpoint.port, error)) {
      missing.push_back({address, error});
      return {};
    }
    diagnostics_.Error(
        address.position,
        "cannot listen on \"" + ToString(address.value) + "\": " + std::strerror(error),
        Advice(error));
    return {};
  }

 private:
  static const Listener* Find(const std::vector<Listener>& listeners,
                              const ListenAddress& address) {
    const auto found = std::ranges::find(listeners, address, &Listener::address);
    return found == listeners.end() ? nullptr : &*found;
  }

  // A reload that asks for an address which another program has is a mistake.
  bool MayWait(const ListenAddress& address, uint16_t port, int error) const {
    if (error != EADDRINUSE && error != EADDRNOTAVAIL) return false;
    const auto is_it = [&address](const auto& one) { return one.address.value == address; };
    if (waiting_ == nullptr || std::ranges::any_of(*waiting_, is_it)) return true;
    return error == EADDRINUSE && CountListeners(port) <= CountLeaving(port);
  }

  // How many sockets listen on the port that will not when the new setup is in force.
  int CountLeaving(uint16_t port) const {
    const auto is_there = [port](const Listener& listener) {
      const auto* endpoint = std::get_if<handoff::Endpoint>(&listener.address);
      return endpoint != nullptr && endpoint->port == port && Listens(listener);
    };
    return static_cast<int>(std::ranges::count_if(leaving_, is_there));
  }

  std::vector<SharedFd> FindInherited(const SystemdSocket& wanted, const Position& position) const {
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

  const ServiceConfig& service_;
  const InheritedSockets& inherited_;
  const std::vector<Listener>& own_;
  const std::vector<Listener>& others_;
  const std::vector<Listener>& leaving_;
  const std::vector<MissingListener>* waiting_;
  Diagnostics& diagnostics_;
};

int NumberFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  int number = -1;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), number);
  return number;
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

Listeners OpenListeners(const ServiceConfig& service, const InheritedSockets& inherited,
                        const std::vector<Listener>& own, const std::vector<Listener>& others,
                        const std::vector<Listener>& leaving,
                        const std::vector<MissingListener>* missing, Diagnostics& diagnostics) {
  const Opener opener(service, inherited, own, others, leaving, missing, diagnostics);
  Listeners listeners;
  for (const auto& address : service.listen) {
    for (SharedFd& socket : opener.Open(address, listeners.missing))
      listeners.open.push_back({address.value, std::move(socket), service.name.value});
  }
  return listeners;
}

SharedFd OpenMissing(const ListenAddress& address, const ServiceConfig& service) {
  UniqueFd fd = Listen(std::get<handoff::Endpoint>(address), /*beside=*/false, service.freebind);
  return fd ? Share(std::move(fd), service.name.value) : nullptr;
}

Complaint WhyMissing(const MissingListener& missing) {
  const auto& endpoint = std::get<handoff::Endpoint>(missing.address.value);
  if (missing.error == EADDRINUSE && CountListeners(endpoint.port) == 0) {
    return {"nobody does, but a connection from before does not share the address",
            "ss -tanp shows it"};
  }
  return {std::strerror(missing.error), Advice(missing.error)};
}

// From here on no other socket can bind(2) beside this one: the kernel remembers that all sockets
// of a port share it (SO_REUSEPORT), and forgets that with the first one that listens and does not
// share it (inet_csk_update_fastreuse in net/ipv4/inet_connection_sock.c).
void StartListening(const Listener& listener) {
  if (Listens(listener)) return;
  const auto start = [](int fd, int backlog) {
    return ShareAddress(fd, 0) && listen(fd, backlog) == 0;
  };
  // If it fails, the next look at the listeners finds that.
  (void)DoElsewhere(listener.socket->get(), start, kTcpBacklog, listener.service);
}

bool Listens(const Listener& listener) {
  return SocketOption(listener.socket->get(), SO_ACCEPTCONN) == 1;
}

}  // namespace tlsbroker::supervisor
