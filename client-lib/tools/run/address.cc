// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/address.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace tlsbroker::tools {

Address::Address(const sockaddr* address)
    : size_(address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)) {
  std::memcpy(&storage_, address, size_);
}

std::optional<Address> Address::Parse(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error != std::errc() || stop != end || port == 0) return std::nullopt;
  std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  Address address;
  if (bracketed && inet_pton(AF_INET6, host.c_str(), &address.v6().sin6_addr) == 1) {
    address.v6().sin6_family = AF_INET6;
    address.v6().sin6_port = htons(port);
    address.size_ = sizeof(sockaddr_in6);
  } else if (!bracketed && inet_pton(AF_INET, host.c_str(), &address.v4().sin_addr) == 1) {
    address.v4().sin_family = AF_INET;
    address.v4().sin_port = htons(port);
    address.size_ = sizeof(sockaddr_in);
  } else {
    return std::nullopt;
  }
  return address;
}

Address Address::Get(Getter getter, int socket) {
  Address address;
  address.size_ = sizeof(address.storage_);
  const bool internet =
      getter(socket, reinterpret_cast<sockaddr*>(&address.storage_), &address.size_) == 0 &&
      (address.family() == AF_INET || address.family() == AF_INET6);
  return internet ? address : Address();
}

Address Address::LocalOf(int socket) { return Get(getsockname, socket); }
Address Address::PeerOf(int socket) { return Get(getpeername, socket); }

uint16_t Address::port() const {
  if (family() == AF_INET) return ntohs(v4().sin_port);
  return family() == AF_INET6 ? ntohs(v6().sin6_port) : 0;
}

std::string Address::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &v4().sin_addr, text, sizeof(text));
    return std::string(text) + ":" + std::to_string(port());
  }
  if (family() != AF_INET6) return "";
  inet_ntop(AF_INET6, &v6().sin6_addr, text, sizeof(text));
  return "[" + std::string(text) + "]:" + std::to_string(port());
}

Address Address::Unmapped() const {
  if (family() != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6().sin6_addr)) return *this;
  Address to;
  to.size_ = sizeof(sockaddr_in);
  to.v4().sin_family = AF_INET;
  to.v4().sin_port = v6().sin6_port;
  std::memcpy(&to.v4().sin_addr, &v6().sin6_addr.s6_addr[12], 4);
  return to;
}

bool Address::IsLoopback() const {
  if (family() == AF_INET) return ntohl(v4().sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  return family() == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6().sin6_addr);
}

bool Address::IsWildcard() const {
  if (family() == AF_INET) return v4().sin_addr.s_addr == htonl(INADDR_ANY);
  return family() == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6().sin6_addr);
}

Address Address::ToConnect() const {
  Address to = *this;
  if (family() == AF_INET && IsWildcard()) {
    to.v4().sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (family() == AF_INET6 && IsWildcard()) {
    to.v6().sin6_addr = in6addr_loopback;
  }
  return to;
}

Address Address::For(int wanted, socklen_t room) const {
  Address to = *this;
  if (wanted == AF_INET6 && family() == AF_INET) {
    to.storage_ = {};
    to.size_ = sizeof(sockaddr_in6);
    to.v6().sin6_family = AF_INET6;
    to.v6().sin6_port = v4().sin_port;
    to.v6().sin6_addr.s6_addr[10] = to.v6().sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(&to.v6().sin6_addr.s6_addr[12], &v4().sin_addr, 4);
  } else if (wanted == AF_INET && family() == AF_INET6 && room < sizeof(sockaddr_in6)) {
    to.storage_ = {};
    to.size_ = sizeof(sockaddr_in);
    to.v4().sin_family = AF_INET;
    to.v4().sin_port = v6().sin6_port;
  }
  return to;
}

}  // namespace tlsbroker::tools
