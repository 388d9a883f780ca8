// SPDX-License-Identifier: Apache-2.0
#include "protocol/pipe.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tlsbroker::pipes {
namespace {

constexpr size_t kHeader = sizeof(uint32_t);
static_assert(kMaxAtomic + kHeader <= PIPE_BUF);

// How much is read at once: a request to sign, as a rule.
constexpr size_t kSmallBuffer = 1024;

Result FromErrno() {
  if (errno == EAGAIN) return Result::kWouldBlock;
  return errno == EPIPE ? Result::kClosed : Result::kError;
}

}  // namespace

Pipe Make() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return {};
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::vector<uint8_t> Frame(std::span<const uint8_t> message) {
  std::vector<uint8_t> frame(kHeader + message.size());
  const auto length = static_cast<uint32_t>(message.size());
  for (size_t i = 0; i < kHeader; ++i)
    frame[i] = static_cast<uint8_t>(length >> (8 * (kHeader - 1 - i)));
  std::ranges::copy(message, frame.begin() + kHeader);
  return frame;
}

Result Write(int pipe, std::span<const uint8_t>& frame) {
  while (!frame.empty()) {
    const ssize_t n = write(pipe, frame.data(), frame.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FromErrno();
    frame = frame.subspan(static_cast<size_t>(n));
  }
  return Result::kOk;
}

Result Send(int pipe, std::span<const uint8_t> message) {
  if (message.empty() || message.size() > kMaxAtomic) {
    errno = EMSGSIZE;
    return Result::kError;
  }
  const std::vector<uint8_t> frame = Frame(message);
  std::span<const uint8_t> rest = frame;
  return Write(pipe, rest);
}

size_t Reader::length() const {
  size_t length = 0;
  for (size_t i = 0; i < kHeader; ++i) length = length << 8 | buffer_[begin_ + i];
  return length;
}

bool Reader::has_next() const {
  return end_ - begin_ >= kHeader && end_ - begin_ - kHeader >= length();
}

Result Reader::TakeBuffered() {
  if (end_ - begin_ < kHeader) return Result::kWouldBlock;
  if (length() == 0 || length() > max_message_) return Result::kMalformed;
  if (!has_next()) return Result::kWouldBlock;
  message_ = std::span(buffer_).subspan(begin_ + kHeader, length());
  begin_ += kHeader + length();
  return Result::kOk;
}

Result Reader::Next(int pipe) {
  message_ = {};
  if (const Result buffered = TakeBuffered(); buffered != Result::kWouldBlock) return buffered;
  // Moves what has come of the next message to the front, so that there is room for the rest of it.
  std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
            buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
  end_ -= std::exchange(begin_, 0);
  const size_t whole = end_ < kHeader ? 0 : kHeader + length();
  buffer_.resize(std::max({buffer_.size(), whole, kSmallBuffer}));
  ssize_t n;
  do {
    n = read(pipe, buffer_.data() + end_, buffer_.size() - end_);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return FromErrno();
  if (n == 0) return Result::kClosed;
  end_ += static_cast<size_t>(n);
  return TakeBuffered();
}

}  // namespace tlsbroker::pipes
