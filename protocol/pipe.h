// SPDX-License-Identifier: Apache-2.0
// One message over a pipe(2): its length as u32 in network order, then that many bytes. This is how
// handshakers and the keyholder of their service talk: a pipe carries no descriptors, so nothing
// that arrives can make a close(2) wait (broker/README.md, "Which way descriptors go"). Runs in
// both; what comes in was written by the process at the other end and is handed on undecoded.
//
// O_NONBLOCK does not apply to the pipe's lock, which the kernel holds while it waits for data to
// splice(2) into the pipe and for pages to copy from or to: a process that can splice or map files
// can stop whoever has the other end. Keyholder and handshaker can do neither (broker/sandbox), but
// a worker to which a handshaker has sent its end can. So the supervisor reads no pipe
// (protocol/ring.h).

#ifndef TLSBROKER_PROTOCOL_PIPE_H_
#define TLSBROKER_PROTOCOL_PIPE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/channel.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::pipes {

using channel::Result;

// A message of this many bytes goes into a pipe whole or not at all: with its length it is PIPE_BUF
// (pipe(7)).
inline constexpr size_t kMaxAtomic = 4096 - sizeof(uint32_t);

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

// Both ends are close-on-exec and non-blocking. Invalid descriptors and errno on failure.
Pipe Make();

// A message as it goes over the pipe.
std::vector<uint8_t> Frame(std::span<const uint8_t> message);

// Writes what there is room for and takes it from the front of `frame`. kOk when all of it is
// written, kWouldBlock when the rest has to wait for POLLOUT, kClosed when nobody reads any more
// (the caller ignores SIGPIPE). Does not block.
Result Write(int pipe, std::span<const uint8_t>& frame);

// A whole message of 1 to kMaxAtomic bytes, or nothing: kWouldBlock when there is no room for it.
Result Send(int pipe, std::span<const uint8_t> message);

class Reader {
 public:
  // The longest message that is accepted.
  explicit Reader(size_t max_message) : max_message_(max_message) {}
  Reader(Reader&&) = default;
  Reader& operator=(Reader&&) = default;

  // The next message is in message() until the next call. kWouldBlock: it has not come, or not
  // whole. kClosed: no writer is left; what came of a message before is dropped. kMalformed: a
  // length of 0 or above the maximum; the pipe is of no use any more. Does not block, reads from
  // the pipe only when no whole message is left from before, and then once.
  Result Next(int pipe);
  std::span<const uint8_t> message() const { return message_; }
  // A whole message is here already: Next() returns it, and poll(2) does not report it.
  bool has_next() const;

 private:
  Result TakeBuffered();
  size_t length() const;  // of the message that begins the buffer

  size_t max_message_;
  std::vector<uint8_t> buffer_;  // of the size that was needed so far
  size_t begin_ = 0;
  size_t end_ = 0;
  std::span<const uint8_t> message_;
};

}  // namespace tlsbroker::pipes

#endif  // TLSBROKER_PROTOCOL_PIPE_H_
