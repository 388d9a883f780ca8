// SPDX-License-Identifier: Apache-2.0
// accept(2) for one listener, and when not to ask. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
#define TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_

#include <asio/awaitable.hpp>
#include <optional>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/listener.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

class Acceptor {
 public:
  // All handshakers have this socket.
  Acceptor(Shared& shared, Listener listener, UniqueFd socket);

  // Accepts until Stop(), and starts a coroutine for each connection.
  asio::awaitable<void> Run();

  // Closes this process' copy of the socket. A connection that has woken this process and no other
  // stays in the backlog until another handshaker begins to accept, or until the next connection
  // wakes one.
  void Stop();

 private:
  // Both return 0 or an error number.
  int AcceptOne();
  asio::awaitable<int> WaitForConnection();

  Shared& shared_;
  const Listener listener_;
  UniqueFd socket_;  // except while it is waited for:
  std::optional<AsyncFd> watched_;
  bool stopped_ = false;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
