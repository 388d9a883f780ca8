// Both ends of a pipe.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PIPE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PIPE_H_

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

struct Pipe {
  UniqueFd read_end, write_end;

  int Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    read_end.Reset(ends[0]);
    write_end.Reset(ends[1]);
    return 0;
  }
};

// What a pipe holds at first (pipe(7)), and what one holds that has been full: a program that fills
// it has more to say, and each time that it has to wait costs two switches between processes.
inline constexpr ssize_t kPipeSize = 64 * 1024;
inline constexpr int kLargerPipeSize = 256 * 1024;

// O_NONBLOCK is a flag of one end of a pipe, not of both; so with a socketpair.
inline void SetNonblocking(const UniqueFd& fd) {
  (void)fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_PIPE_H_
