// Pumps one connection whose records the kernel does not do, or in one direction only: OpenSSL on
// the client's side, a Unix stream on the worker's, as PROTOCOL.md ("Relay and bridge streams")
// says. Runs in the handshaker; both sides are strangers.

#ifndef TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
#define TLSBROKER_BROKER_HANDSHAKER_RELAY_H_

#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <span>

#include "broker/handshaker/async_fd.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

// The worker has ended and left, the client has not: what still comes is read and dropped for this
// long, since a close with unread data would reset the connection under our close_notify.
inline constexpr std::chrono::seconds kRelayLinger{5};

// KeyUpdates of the peer that are answered within one second; more end the connection.
inline constexpr int kMaxKeyUpdatesPerSecond = 8;

// Who makes the records for the client. OpenSSL opens the client's in both cases.
enum class Sealer {
  kOpenssl,
  kKernel,  // TX keys are installed, and OpenSSL's own must not be used again: same numbers, same
            // nonces
};

class Relay {
 public:
  // `ssl` has done its handshake and holds no data; `worker` is our end of the pair.
  Relay(const asio::any_io_executor& executor, AsyncFd client, SslPtr ssl, Sealer sealer,
        AsyncFd worker);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Returns when both directions have ended and the worker has closed, or one side failed. Both
  // descriptors are closed by the destructor.
  asio::awaitable<void> Run();

 private:
  asio::awaitable<void> ClientToWorker();
  asio::awaitable<void> WorkerToClient();
  asio::awaitable<bool> WriteToClient(std::span<const uint8_t> bytes);
  asio::awaitable<bool> WriteByOpenssl(std::span<const uint8_t> bytes);
  asio::awaitable<bool> WaitForClient(int ssl_error);
  asio::awaitable<bool> SendCloseNotify();
  asio::awaitable<bool> OpensslCloseNotify();
  asio::awaitable<bool> KernelCloseNotify();
  asio::awaitable<void> WorkerClosed();
  // A fatal alert, if there is room for it now: what the client has is not the whole.
  void SendFailure();
  void Abort();

  static void OnMessage(int is_write, int version, int content_type, const void* data, size_t size,
                        SSL* ssl, void* self);
  void OnKeyUpdate(bool answer_requested);

  AsyncFd client_;
  SslPtr ssl_;
  Sealer sealer_;
  AsyncFd worker_;
  asio::steady_timer linger_;
  bool client_ended_ = false;  // close_notify came
  bool worker_ended_ = false;  // END came
  bool worker_closed_ = false;
  bool refused_ = false;  // a KeyUpdate that ends the connection
  int key_updates_ = 0;
  std::chrono::steady_clock::time_point key_updates_since_{};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
