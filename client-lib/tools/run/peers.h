// SPDX-License-Identifier: Apache-2.0
// The real peers of the daemon's sockets. Part of `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_PEERS_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_PEERS_H_

#include <cstdint>
#include <deque>
#include <map>

#include "client-lib/tools/run/address.h"

namespace tlsbroker::tools {

// The kernel's number of a socket (SO_COOKIE), which no other socket ever gets; 0: it has none.
uint64_t CookieOf(int socket);

class Peers {
 public:
  void Add(uint64_t cookie, const Address& peer) { peers_[cookie] = peer; }
  // For a connection that is over. It is still remembered for a while, since the daemon may ask.
  void Retire(uint64_t cookie);
  // nullptr: the socket is not one of ours, and the kernel's answer is right.
  const Address* Find(uint64_t cookie) const;

 private:
  static constexpr size_t kRemembered = 4096;

  std::map<uint64_t, Address> peers_;
  std::deque<uint64_t> retired_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_PEERS_H_
