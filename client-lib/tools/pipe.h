// SPDX-License-Identifier: Apache-2.0
// Both ends of a pipe, and what moves bytes into it and out of it without copying them.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_PIPE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_PIPE_H_

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

struct Pipe {
  UniqueFd read_end, write_end;

  // `flags` of pipe2(2), besides O_CLOEXEC. 0 or -errno.
  int Open(int flags = 0) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | flags) != 0) return -errno;
    read_end.Reset(ends[0]);
    write_end.Reset(ends[1]);
    return 0;
  }
};

// What a pipe holds at first (pipe(7)), and the size that it gets once it has been full: a program
// that fills it has more to say, and each time that the program has to wait costs two switches
// between processes.
inline constexpr ssize_t kPipeSize = 64 * 1024;
inline constexpr int kLargerPipeSize = 256 * 1024;

// As much as a pipe may ever hold (/proc/sys/fs/pipe-max-size), and so the most to move at once.
inline constexpr size_t kPiece = 1 << 20;

// splice(2), of which one side has to be a pipe, without waiting. Returns the bytes moved, 0 at the
// end, -EAGAIN if it would have to wait, or another -errno.
inline ssize_t Splice(const UniqueFd& from, const UniqueFd& to) {
  ssize_t n;
  do {
    n = splice(from.get(), nullptr, to.get(), nullptr, kPiece, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

// O_NONBLOCK is a flag of one end of a pipe, not of both; the same holds for a socketpair.
inline void SetNonblocking(const UniqueFd& fd) {
  (void)fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_PIPE_H_
