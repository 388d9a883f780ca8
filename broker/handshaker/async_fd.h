// SPDX-License-Identifier: Apache-2.0
// A descriptor that coroutines can wait on. Runs in the handshaker, in its one thread.

#ifndef TLSBROKER_BROKER_HANDSHAKER_ASYNC_FD_H_
#define TLSBROKER_BROKER_HANDSHAKER_ASYNC_FD_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "protocol/unique_fd.h"

namespace tlsbroker {

class AsyncFd {
 public:
  // The descriptor is non-blocking from here on. Throws asio::system_error if it cannot be watched
  // for want of memory; then `fd` still holds it.
  AsyncFd(const asio::any_io_executor& executor, UniqueFd&& fd);
  AsyncFd(AsyncFd&& other) noexcept;
  AsyncFd& operator=(AsyncFd&& other) noexcept;
  ~AsyncFd() { const UniqueFd closed = Release(); }

  int get() const { return fd_; }

  // False once Cancel() was called, before or meanwhile. May wake up with nothing to do.
  asio::awaitable<bool> WaitReadable();
  asio::awaitable<bool> WaitWritable();
  // Waits until the peer of a socket has closed both directions (EPOLLHUP) or the socket has an
  // error; for a pipe, until nobody has its other end any more.
  asio::awaitable<bool> WaitHangup();

  // Waits without a coroutine: calls `handler` once, unless Cancel() comes first. The handler is
  // destroyed in any case, and may hold what has to live as long.
  template <typename Handler>
  void OnReadable(Handler handler) {
    Call(asio::posix::stream_descriptor::wait_read, std::move(handler));
  }
  template <typename Handler>
  void OnWritable(Handler handler) {
    Call(asio::posix::stream_descriptor::wait_write, std::move(handler));
  }

  // Wakes the waiters, and makes all further waits fail. This ends the use of the descriptor.
  void Cancel();
  bool cancelled() const { return cancelled_; }

  // Takes the descriptor out of the event loop. Asio's own close() leaves that to the kernel, which
  // forgets a descriptor only when its last copy is closed; a worker has a copy of ours, and this
  // process would be woken for it.
  UniqueFd Release();

 private:
  template <typename Handler>
  void Call(asio::posix::stream_descriptor::wait_type type, Handler handler) {
    descriptor_.async_wait(type,
                           [handler = std::move(handler)](const asio::error_code& error) mutable {
                             if (!error) handler();
                           });
  }

  asio::awaitable<bool> Wait(asio::posix::stream_descriptor::wait_type type);

  asio::posix::stream_descriptor descriptor_;
  int fd_ = -1;
  bool cancelled_ = false;
};

// Sends all of `bytes` with send(2) and MSG_NOSIGNAL; false on an error of the socket or Cancel().
asio::awaitable<bool> SendAll(AsyncFd& socket, std::span<const uint8_t> bytes);

// Fills `buffer`. Returns how many bytes came: fewer at the end of file, on an error, or on
// Cancel().
asio::awaitable<size_t> Receive(AsyncFd& socket, std::span<uint8_t> buffer);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_ASYNC_FD_H_
