// SPDX-License-Identifier: Apache-2.0
// What every server of the benchmarks does with a connection, in whatever way its TLS is done: it
// obeys commands of 16 bytes, a letter and a number. The same code answers behind each competitor.

#ifndef TLSBROKER_TESTS_BENCH_PROGRAMS_SERVICE_H_
#define TLSBROKER_TESTS_BENCH_PROGRAMS_SERVICE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "protocol/unique_fd.h"

namespace tlsbroker::bench {

inline constexpr size_t kCommandSize = 16;

enum class Op : char {
  kHello = 'h',     // answer one byte
  kTime = 't',      // answer when the connection was taken: CLOCK_MONOTONIC, 20 digits, nanoseconds
  kSend = 's',      // write so many bytes
  kSendFile = 'f',  // the same with sendfile(2), where the server has a descriptor to send to
  kReceive = 'r',   // read so many bytes, then answer one
  kEcho = 'e',      // from now on: read so many bytes, write as many back
};

std::string Command(Op op, uint64_t number);

uint64_t NowNs();  // CLOCK_MONOTONIC

// A connection. The three calls block; Read and Write return a count, 0 at the end or after an
// error.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual int fd() const = 0;
  virtual size_t Read(void* buffer, size_t size) = 0;
  virtual bool WriteAll(const void* bytes, size_t size) = 0;
  virtual bool SendFileAll(int file, size_t size) = 0;
  // Ends the connection cleanly, without waiting for the peer's end. Nothing follows.
  virtual void End() = 0;
};

// Plain descriptors; also those with kernel TLS, except for End.
class FdStream : public Stream {
 public:
  explicit FdStream(UniqueFd fd) : in_(std::move(fd)), out_(in_.get()) {}
  FdStream(UniqueFd in, int out) : in_(std::move(in)), out_(out) {}
  int fd() const override { return in_.get(); }
  size_t Read(void* buffer, size_t size) override;
  bool WriteAll(const void* bytes, size_t size) override;
  bool SendFileAll(int file, size_t size) override;
  void End() override {}

 private:
  UniqueFd in_;
  int out_;
};

// Obeys the next command; false if the connection is over.
bool ServeCommand(Stream& stream, uint64_t taken_at);

// Serves one connection after the other as commands come: `entry` becomes readable when there is
// one more to take, which `take` does; it returns null if there is none, and throws nothing.
[[noreturn]] void ServeForever(int entry, const std::function<std::unique_ptr<Stream>()>& take);

// The soft limit of open descriptors becomes the hard one.
void RaiseDescriptorLimit();

// Listens on 127.0.0.1, with room for many connections.
int Listen(uint16_t port);

}  // namespace tlsbroker::bench

#endif  // TLSBROKER_TESTS_BENCH_PROGRAMS_SERVICE_H_
