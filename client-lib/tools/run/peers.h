// Whom the daemon's sockets really speak to. Part of `tlsbroker run`.

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
  // The connection is over. The daemon may ask for a while yet.
  void Retire(uint64_t cookie);
  // nullptr: the kernel knows.
  const Address* Find(uint64_t cookie) const;

 private:
  static constexpr size_t kRemembered = 4096;

  std::map<uint64_t, Address> peers_;
  std::deque<uint64_t> retired_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_PEERS_H_
