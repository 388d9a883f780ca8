// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/async_fd.h"

#include <sys/socket.h>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>

namespace tlsbroker {

AsyncFd::AsyncFd(const asio::any_io_executor& executor, UniqueFd&& fd)
    : descriptor_(executor), fd_(fd.get()) {
  descriptor_.assign(fd_);
  (void)fd.Release();
  descriptor_.non_blocking(true);
}

AsyncFd::AsyncFd(AsyncFd&& other) noexcept
    : descriptor_(std::move(other.descriptor_)),
      fd_(std::exchange(other.fd_, -1)),
      cancelled_(other.cancelled_) {}

AsyncFd& AsyncFd::operator=(AsyncFd&& other) noexcept {
  if (this == &other) return *this;
  const UniqueFd closed = Release();
  descriptor_ = std::move(other.descriptor_);
  fd_ = std::exchange(other.fd_, -1);
  cancelled_ = other.cancelled_;
  return *this;
}

asio::awaitable<bool> AsyncFd::Wait(asio::posix::stream_descriptor::wait_type type) {
  if (cancelled_) co_return false;
  asio::error_code error;
  co_await descriptor_.async_wait(type, asio::redirect_error(asio::use_awaitable, error));
  co_return !error && !cancelled_;
}

asio::awaitable<bool> AsyncFd::WaitReadable() {
  return Wait(asio::posix::stream_descriptor::wait_read);
}

asio::awaitable<bool> AsyncFd::WaitWritable() {
  return Wait(asio::posix::stream_descriptor::wait_write);
}

asio::awaitable<bool> AsyncFd::WaitHangup() {
  return Wait(asio::posix::stream_descriptor::wait_error);
}

void AsyncFd::Cancel() {
  cancelled_ = true;
  asio::error_code ignored;
  descriptor_.cancel(ignored);
}

UniqueFd AsyncFd::Release() {
  fd_ = -1;
  if (!descriptor_.is_open()) return UniqueFd();
  return UniqueFd(descriptor_.release());
}

asio::awaitable<bool> SendAll(AsyncFd& socket, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      const bool writable = co_await socket.WaitWritable();
      if (!writable) co_return false;
    } else if (errno != EINTR) {
      co_return false;
    }
  }
  co_return true;
}

asio::awaitable<size_t> Receive(AsyncFd& socket, std::span<uint8_t> buffer) {
  size_t received = 0;
  // Whether it is cancelled is checked even if there is always more to read.
  while (received < buffer.size() && !socket.cancelled()) {
    const auto room = buffer.subspan(received);
    const ssize_t n = recv(socket.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (n > 0) {
      received += static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      const bool readable = co_await socket.WaitReadable();
      if (!readable) break;
    } else if (n == 0 || errno != EINTR) {
      break;
    }
  }
  co_return received;
}

}  // namespace tlsbroker
