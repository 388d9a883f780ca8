// SPDX-License-Identifier: Apache-2.0
// For tests that need a port that nobody else uses. Test only.

#ifndef TLSBROKER_TESTS_UNIT_BOUND_H_
#define TLSBROKER_TESTS_UNIT_BOUND_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include "protocol/unique_fd.h"

namespace tlsbroker {

// A TCP socket on some free port of 127.0.0.1.
struct Bound {
  Bound() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
  UniqueFd fd;
  int port = 0;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_BOUND_H_
