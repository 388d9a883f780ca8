// SPDX-License-Identifier: Apache-2.0
// The relay and bridge modes: one end of a Unix socketpair, at whose other end a process of the
// broker moves the bytes (PROTOCOL.md section 3.2). Runs in workers; the broker is trusted to tell
// an end from a cut.

#ifndef TLSBROKER_CLIENT_LIB_STREAM_IO_H_
#define TLSBROKER_CLIENT_LIB_STREAM_IO_H_

#include <sys/types.h>

#include <cstddef>

namespace tlsbroker::client {

// Result as that of tlsbroker_read(). `flags` is 0 or MSG_DONTWAIT.
ssize_t ReadStream(int socket, void* buffer, size_t size, int flags);

// Result as that of RecordReader::Splice().
ssize_t SpliceStream(int socket, int pipe, size_t size, unsigned flags);

// Sends the END message. -EAGAIN: no room now.
int SendStreamEnd(int socket, bool dont_wait);

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_STREAM_IO_H_
