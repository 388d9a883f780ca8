// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/output.h"

#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace tlsbroker::logger {

void Output::Use(supervision::LogOutput output) {
  fd_ = std::move(output.fd);
  priorities_ = output.priorities;
  socket_ = output.socket;
  next_try_ = Clock::time_point::min();
  const size_t line = chunk_.rfind('\n', written_ == 0 ? 0 : written_ - 1);
  written_ = written_ == 0 || line == std::string::npos ? 0 : line + 1;
}

bool Output::Add(std::string line, const std::shared_ptr<Share>& share) {
  const size_t size = line.size() + kLineOverhead;
  if (waiting_ + size > kMaxWaiting || share->waiting + size > share->limit) return false;
  if (share->from_workers && from_workers_ + size > kMaxFromWorkers) return false;
  waiting_ += size;
  share->waiting += size;
  if (share->from_workers) from_workers_ += size;
  lines_.push_back({std::move(line), share});
  return true;
}

void Output::FillChunk() {
  chunk_.clear();
  written_ = 0;
  while (!lines_.empty() && chunk_.size() + lines_.front().text.size() <= PIPE_BUF) {
    const Line& line = lines_.front();
    const size_t size = line.text.size() + kLineOverhead;
    waiting_ -= size;
    line.share->waiting -= size;
    if (line.share->from_workers) from_workers_ -= size;
    chunk_ += line.text;
    lines_.pop_front();
  }
}

// The descriptor may be one that blocks, if the supervisor could not open one for the broker alone.
// When poll(2) says that a pipe is writable, it takes PIPE_BUF bytes at once (pipe(7)), unless
// somebody else has written into it since then.
ssize_t Output::WriteOnce() {
  const char* data = chunk_.data() + written_;
  const size_t size = chunk_.size() - written_;
  if (socket_) return send(fd_.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  pollfd room{fd_.get(), POLLOUT, 0};
  if (poll(&room, 1, 0) == 0) {
    errno = EAGAIN;
    return -1;
  }
  return write(fd_.get(), data, size);
}

void Output::Write(Clock::time_point now) {
  if (!fd_ || now < next_try_) return;
  for (size_t done = 0; done < kTurn;) {
    if (written_ == chunk_.size()) FillChunk();
    if (chunk_.empty()) return;
    const ssize_t n = WriteOnce();
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (n == 0 || errno != EAGAIN) next_try_ = now + kRetry;
      return;
    }
    written_ += static_cast<size_t>(n);
    done += static_cast<size_t>(n);
    if (written_ == chunk_.size()) chunk_.clear(), written_ = 0;
  }
}

pollfd Output::Awaited() const {
  const bool wait = !empty() && next_try_ <= Clock::now();
  return {wait ? fd_.get() : -1, POLLOUT, 0};
}

}  // namespace tlsbroker::logger
