// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/peers.h"

#include <sys/socket.h>

namespace tlsbroker::tools {

uint64_t CookieOf(int socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

void Peers::Retire(uint64_t cookie) {
  retired_.push_back(cookie);
  if (retired_.size() <= kRemembered) return;
  peers_.erase(retired_.front());
  retired_.pop_front();
}

const Address* Peers::Find(uint64_t cookie) const {
  const auto found = peers_.find(cookie);
  return found == peers_.end() ? nullptr : &found->second;
}

}  // namespace tlsbroker::tools
