// SPDX-License-Identifier: Apache-2.0
// tlsbroker-loopback: sends its own network namespace over its standard input, and ends. The
// service manager starts it in a new one, whose loopback interface is up
// (tlsbroker-loopback@.service), when the supervisor's child that becomes the runner of a daemon
// connects to its socket. Only root can connect there; nothing is read.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "protocol/channel.h"
#include "protocol/unique_fd.h"

int main() {
  using namespace tlsbroker;
  const UniqueFd network(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!network) {
    std::perror("tlsbroker-loopback: /proc/self/ns/net");
    return EXIT_FAILURE;
  }
  const std::array<uint8_t, 1> byte{};
  const int fd = network.get();
  if (channel::Send(STDIN_FILENO, byte, {&fd, 1}) == channel::Result::kOk) return EXIT_SUCCESS;
  std::perror("tlsbroker-loopback: sending to standard input, which the service manager connects");
  return EXIT_FAILURE;
}
