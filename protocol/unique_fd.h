// SPDX-License-Identifier: Apache-2.0
// UniqueFd owns one file descriptor and closes it once. It is the only place of the project that
// calls close(2): a signature with UniqueFd by value takes the descriptor, one with int borrows it.
// Used in every process.

#ifndef TLSBROKER_PROTOCOL_UNIQUE_FD_H_
#define TLSBROKER_PROTOCOL_UNIQUE_FD_H_

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace tlsbroker {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }

  // Gives the descriptor up without closing it.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

  // close(2) is not retried after EINTR: Linux has released the number by then. errno survives,
  // so that an error path may close first and report afterwards.
  void Reset(int fd = -1) {
    const int old = std::exchange(fd_, fd);
    if (old < 0) return;
    const int saved = errno;
    ::close(old);
    errno = saved;
  }

 private:
  int fd_ = -1;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_PROTOCOL_UNIQUE_FD_H_
