// accept(2) for one listener: who may come in, and when not to ask. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
#define TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_

#include <asio/awaitable.hpp>
#include <optional>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

class Acceptor {
 public:
  // All handshakers have this listener.
  Acceptor(Shared& shared, Service& service, UniqueFd listener);

  // Accepts until Stop(), and starts a coroutine for each connection.
  asio::awaitable<void> Run();

  // Closes the listener, as far as this process has it. A connection may have woken this process
  // and no other: it waits for who begins to accept later, or is woken by the next one.
  void Stop();

 private:
  // Both: 0 or an error number.
  int AcceptOne();
  asio::awaitable<int> WaitForConnection();

  Shared& shared_;
  Service& service_;
  UniqueFd listener_;  // except while it is waited for:
  std::optional<AsyncFd> watched_;
  bool stopped_ = false;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ACCEPTOR_H_
