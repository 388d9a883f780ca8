// SPDX-License-Identifier: Apache-2.0
// The kernel's addresses as those of the hand-off. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_
#define TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_

#include <sys/socket.h>

#include "protocol/handoff.h"

namespace tlsbroker {

// `from` is an AF_INET or AF_INET6 address. An IPv4-mapped IPv6 address becomes an IPv4 one.
handoff::Endpoint ToEndpoint(const sockaddr_storage& from);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_
