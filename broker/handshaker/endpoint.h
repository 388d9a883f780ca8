// The kernel's addresses as those of the hand-off. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_
#define TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_

#include <sys/socket.h>

#include "protocol/handoff.h"

namespace tlsbroker {

// Of AF_INET or AF_INET6; an IPv4 address in an IPv6 one comes out as such.
handoff::Endpoint ToEndpoint(const sockaddr_storage& from);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ENDPOINT_H_
