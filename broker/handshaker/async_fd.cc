#include "broker/handshaker/async_fd.h"

#include <sys/socket.h>

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>

#include "protocol/channel.h"

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
  Close();
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

void AsyncFd::Close() {
  UniqueFd fd = Release();
  if (fd) (void)channel::CloseAtOnce(fd);
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
      if (!co_await socket.WaitWritable()) co_return false;
    } else if (errno != EINTR) {
      co_return false;
    }
  }
  co_return true;
}

asio::awaitable<bool> ReceiveExactly(AsyncFd& socket, std::span<uint8_t> buffer) {
  while (!buffer.empty()) {
    if (socket.cancelled()) co_return false;  // also while there is always something to read
    const ssize_t n = recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      buffer = buffer.subspan(static_cast<size_t>(n));
    } else if (n == 0) {
      co_return false;
    } else if (errno == EAGAIN) {
      if (!co_await socket.WaitReadable()) co_return false;
    } else if (errno != EINTR) {
      co_return false;
    }
  }
  co_return true;
}

}  // namespace tlsbroker
