// SPDX-License-Identifier: Apache-2.0
// See the header.

#include "broker/handshaker/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "broker/support/status.h"

namespace tlsbroker {
namespace {

constexpr int kSocketFlags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  bool operator==(const Address& other) const {
    return size == other.size && memcmp(&storage, &other.storage, size) == 0;
  }
};

Address Ipv4Loopback() {
  Address address;
  auto* in = reinterpret_cast<sockaddr_in*>(&address.storage);
  in->sin_family = AF_INET;
  in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.size = sizeof(*in);
  return address;
}

Address Ipv6Loopback() {
  Address address;
  auto* in = reinterpret_cast<sockaddr_in6*>(&address.storage);
  in->sin6_family = AF_INET6;
  in->sin6_addr = in6addr_loopback;
  address.size = sizeof(*in);
  return address;
}

absl::StatusOr<UniqueFd> Listen(Address address) {
  UniqueFd listener(socket(address.family(), kSocketFlags, 0));
  if (!listener || bind(listener.get(), address.get(), address.size) != 0 ||
      listen(listener.get(), 8) != 0) {
    return ErrnoStatus("listening on the loopback address");
  }
  return listener;
}

absl::Status Wait(int socket, short events, TimePoint deadline) {
  using std::chrono::milliseconds;
  const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
  pollfd entry = {socket, events, 0};
  const int ready = poll(&entry, 1, static_cast<int>(std::max<long>(left.count(), 0)));
  if (ready < 0 && errno != EINTR) return ErrnoStatus("poll");
  if (ready == 0) return absl::DeadlineExceededError("nothing came in time");
  return absl::OkStatus();
}

// Accepts the connection whose other end is `client`; connections of strangers are dropped.
absl::StatusOr<UniqueFd> AcceptFrom(int listener, const Address& client, TimePoint deadline) {
  while (true) {
    Address peer;
    UniqueFd accepted(accept4(listener, peer.get(), &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted && peer == client) return accepted;
    if (!accepted && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      return ErrnoStatus("accepting on the loopback address");
    }
    RETURN_IF_ERROR(Wait(listener, POLLIN, deadline));
  }
}

}  // namespace

absl::StatusOr<LoopbackListener> LoopbackListener::Create() {
  auto listener = Listen(Ipv4Loopback());
  if (!listener.ok()) listener = Listen(Ipv6Loopback());
  if (!listener.ok()) return listener.status();
  return LoopbackListener(std::move(listener).value());
}

absl::StatusOr<LoopbackConnection> LoopbackListener::Connect(TimePoint deadline) const {
  Address server;
  if (getsockname(listener_.get(), server.get(), &server.size) != 0) {
    return ErrnoStatus("getsockname");
  }
  UniqueFd client(socket(server.family(), kSocketFlags, 0));
  if (!client) return ErrnoStatus("socket");
  if (connect(client.get(), server.get(), server.size) != 0 && errno != EINPROGRESS) {
    return ErrnoStatus("connecting to the loopback address");
  }
  Address own;
  if (getsockname(client.get(), own.get(), &own.size) != 0) return ErrnoStatus("getsockname");
  ASSIGN_OR_RETURN(UniqueFd accepted, AcceptFrom(listener_.get(), own, deadline));
  RETURN_IF_ERROR(Wait(client.get(), POLLOUT, deadline));
  return LoopbackConnection{std::move(client), std::move(accepted)};
}

absl::Status SendAll(int socket, std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EINTR) {
      RETURN_IF_ERROR(Wait(socket, POLLOUT, deadline));
    } else {
      return ErrnoStatus("send");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveExactly(int socket, size_t size, TimePoint deadline) {
  std::string bytes(size, '\0');
  for (size_t have = 0; have < size;) {
    RETURN_IF_ERROR(Wait(socket, POLLIN, deadline));
    const ssize_t got = recv(socket, &bytes[have], size - have, 0);
    if (got == 0) return absl::OutOfRangeError("the connection ended");
    if (got > 0) {
      have += static_cast<size_t>(got);
    } else if (errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus("recv");
    }
  }
  return bytes;
}

}  // namespace tlsbroker
