// SPDX-License-Identifier: Apache-2.0
// Internet addresses as accept(2) and similar calls have them. Part of `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_ADDRESS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

namespace tlsbroker::tools {

class Address {
 public:
  Address() = default;  // of no family
  // sockaddr_in or sockaddr_in6.
  explicit Address(const sockaddr* address);
  // "127.0.0.1:80", "[::1]:80".
  static std::optional<Address> Parse(const std::string& text);
  // The result is of no family when the socket has no such address.
  static Address LocalOf(int socket);
  static Address PeerOf(int socket);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  std::string ToString() const;

  // A mapped IPv4 address as what it is; any other one as it is.
  Address Unmapped() const;
  bool IsLoopback() const;
  bool IsWildcard() const;

  // Where a listener with this address can be reached: by loopback, if this is the wildcard
  // address.
  Address ToConnect() const;

  // This address in the form for a program whose listener is of `family` and that has `room` bytes
  // for it. An IPv4 address becomes a mapped one for IPv6. An IPv6 address for which there is no
  // room becomes 0.0.0.0, which is nobody's address and in no list of trusted addresses.
  Address For(int family, socklen_t room) const;

  friend bool operator==(const Address& a, const Address& b) {
    return a.ToString() == b.ToString();
  }

 private:
  using Getter = int (*)(int, sockaddr*, socklen_t*);
  static Address Get(Getter getter, int socket);
  sockaddr_in& v4() { return reinterpret_cast<sockaddr_in&>(storage_); }
  sockaddr_in6& v6() { return reinterpret_cast<sockaddr_in6&>(storage_); }
  const sockaddr_in& v4() const { return reinterpret_cast<const sockaddr_in&>(storage_); }
  const sockaddr_in6& v6() const { return reinterpret_cast<const sockaddr_in6&>(storage_); }

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_ADDRESS_H_
