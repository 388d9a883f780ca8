// SPDX-License-Identifier: Apache-2.0
// Attempts to reach a network. Families and flags are whole registers.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

// The arguments are family, type and, optionally, protocol.
int Socket(const Arguments& arguments) {
  const uint64_t protocol = arguments.size() > 2 ? Register(arguments[2]) : 0;
  return ErrorOf(
      syscall(SYS_socket, Register(arguments.at(0)), Register(arguments.at(1)), protocol));
}

int Socketpair(const Arguments& arguments) {
  int pair[2];
  return ErrorOf(syscall(SYS_socketpair, Register(arguments.at(0)), SOCK_STREAM, 0, pair));
}

sockaddr_in Loopback(const std::string& port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(port)));
  return address;
}

int Disconnect() {
  sockaddr unspecified{};
  unspecified.sa_family = AF_UNSPEC;
  return ErrorOf(connect(kConnectionFd, &unspecified, sizeof(unspecified)));
}

// A TCP socket that was handed over can be connected to another address once it is disconnected
// (connect(2)).
int Reconnect(const Arguments& arguments) {
  if (const int error = Disconnect()) return error;
  const sockaddr_in address = Loopback(arguments.at(0));
  return ErrorOf(
      connect(kConnectionFd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

int FastOpen(const Arguments& arguments) {
  (void)Disconnect();
  const sockaddr_in address = Loopback(arguments.at(0));
  return ErrorOf(sendto(kConnectionFd, "x", 1, MSG_FASTOPEN,
                        reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

int Connect(const Arguments& arguments) {
  const sockaddr_in address = Loopback(arguments.at(0));
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  return ErrorOf(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

// Connects to a listener of the attacker's own.
int ConnectHere(const Arguments&) {
  sockaddr_in address = Loopback("0");
  socklen_t size = sizeof(address);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 || listen(fd, 1) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return errno;
  }
  return Connect({std::to_string(ntohs(address.sin_port))});
}

// Without a bind before, the kernel picks the port.
int Listen(const Arguments&) {
  if (const int error = Disconnect()) return error;
  return ErrorOf(listen(kConnectionFd, 1));
}

int ConnectAbstract(const Arguments& arguments) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path + 1, arguments.at(0).data(), arguments.at(0).size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  const auto size = offsetof(sockaddr_un, sun_path) + 1 + arguments.at(0).size();
  return ErrorOf(
      connect(fd, reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(size)));
}

// Sends into the descriptor that was handed to the attacker.
int Send(const Arguments&) { return ErrorOf(send(kConnectionFd, "x", 1, MSG_NOSIGNAL)); }

constexpr Attack kAttacks[] = {
    {"send", Send},
    {"socket", Socket},
    {"socketpair", Socketpair},
    {"tcp-connect", Connect},
    {"tcp-connect-here", ConnectHere},
    {"tcp-reconnect", Reconnect},
    {"fast-open", FastOpen},
    {"tcp-listen", Listen},
    {"connect-abstract", ConnectAbstract},
};

}  // namespace

std::span<const Attack> NetworkAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
