// SPDX-License-Identifier: Apache-2.0
// An address of the configuration as the kernel wants it. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SOCKET_ADDRESS_H_
#define TLSBROKER_BROKER_SUPERVISOR_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include "protocol/handoff.h"

namespace tlsbroker::supervisor {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

SocketAddress ToSocketAddress(const handoff::Endpoint& endpoint);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SOCKET_ADDRESS_H_
