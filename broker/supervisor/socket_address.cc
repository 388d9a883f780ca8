// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/socket_address.h"

#include <netinet/in.h>

#include <cstring>

namespace tlsbroker::supervisor {

SocketAddress ToSocketAddress(const handoff::Endpoint& endpoint) {
  SocketAddress address;
  if (endpoint.ipv6) {
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(endpoint.port);
    std::memcpy(&in6.sin6_addr, endpoint.address.data(), sizeof(in6.sin6_addr));
    std::memcpy(&address.storage, &in6, sizeof(in6));
    address.size = sizeof(in6);
  } else {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.data(), sizeof(in.sin_addr));
    std::memcpy(&address.storage, &in, sizeof(in));
    address.size = sizeof(in);
  }
  return address;
}

}  // namespace tlsbroker::supervisor
