// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/endpoint.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace tlsbroker {
namespace {

bool IsMappedIpv4(const in6_addr& address) { return IN6_IS_ADDR_V4MAPPED(&address); }

}  // namespace

handoff::Endpoint ToEndpoint(const sockaddr_storage& from) {
  handoff::Endpoint endpoint;
  if (from.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(from);
    const uint8_t* bytes = in6.sin6_addr.s6_addr;
    endpoint.port = ntohs(in6.sin6_port);
    endpoint.ipv6 = !IsMappedIpv4(in6.sin6_addr);
    if (endpoint.ipv6) {
      std::copy_n(bytes, 16, endpoint.address.begin());
    } else {
      std::copy_n(bytes + 12, 4, endpoint.address.begin());
    }
    return endpoint;
  }
  const auto& in4 = reinterpret_cast<const sockaddr_in&>(from);
  endpoint.port = ntohs(in4.sin_port);
  std::memcpy(endpoint.address.data(), &in4.sin_addr, 4);
  return endpoint;
}

}  // namespace tlsbroker
