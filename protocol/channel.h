// SPDX-License-Identifier: Apache-2.0
// One message over a SOCK_SEQPACKET Unix socket, with the file descriptors that travel beside it.
// The only code that sends or receives SCM_RIGHTS. Runs in every process; what comes in was
// written by the peer of that socket and is handed on undecoded.

#ifndef TLSBROKER_PROTOCOL_CHANNEL_H_
#define TLSBROKER_PROTOCOL_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "protocol/unique_fd.h"

namespace tlsbroker::channel {

// Largest message of any of our boundaries, in bytes; PROTOCOL.md names smaller ones per boundary.
inline constexpr size_t kMaxMessage = 128 * 1024;
inline constexpr size_t kMaxFds = 4;

enum class Result {
  kOk,
  kWouldBlock,  // EAGAIN: nothing to read, or no room to write
  kClosed,      // the peer is gone (end of file, EPIPE, ECONNRESET)
  kMalformed,   // truncated data or descriptors, or more of either than the boundary allows
  kError,       // errno says what
};

struct Message {
  std::vector<uint8_t> bytes;
  std::vector<UniqueFd> fds;
};

// Sends one message with the given descriptors, which stay the caller's. Blocks as the socket does,
// unless `dont_wait`. Never raises SIGPIPE.
Result Send(int socket, std::span<const uint8_t> bytes, std::span<const int> fds = {},
            bool dont_wait = false);

// Receives one message of at most max_bytes bytes and max_fds (<= kMaxFds) descriptors. All
// descriptors arrive close-on-exec. On kMalformed message.fds holds those that came, to be closed.
// Blocks as the socket does, unless `dont_wait`.
Result Receive(int socket, size_t max_bytes, size_t max_fds, Message& message,
               bool dont_wait = false);

// The END message of a relay or bridge stream (PROTOCOL.md): one zero byte with one descriptor,
// which says that the sender ends its direction on purpose. `stream` is a Unix SOCK_STREAM socket.
Result SendEnd(int stream, bool dont_wait = false);

struct StreamRead {
  size_t size = 0;   // bytes of data at the start of the buffer
  bool end = false;  // the END message came; nothing more is to be expected
};

// Reads what a worker wrote into a relay or bridge stream. Never blocks. kOk with neither data nor
// `end` does not occur; kClosed is a close without END. Descriptors that came along are closed,
// which can take as long as whoever sent them likes (PROTOCOL.md section 7).
Result ReceiveStream(int stream, std::span<uint8_t> buffer, StreamRead& read);

// A connected pair of close-on-exec SOCK_SEQPACKET sockets; invalid descriptors and errno on
// failure.
std::pair<UniqueFd, UniqueFd> MakePair();

}  // namespace tlsbroker::channel

#endif  // TLSBROKER_PROTOCOL_CHANNEL_H_
