// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/socket_bridge.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "client-lib/tools/pipe.h"

namespace tlsbroker::tools {

int SocketBridge::Open(UniqueFd& input, UniqueFd& output, UniqueFd& program_end) {
  Pipe in, out;
  int ends[2];
  if (const int error = in.Open(); error < 0) return error;
  if (const int error = out.Open(); error < 0) return error;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
  socket_.Reset(ends[0]);
  program_end.Reset(ends[1]);
  from_ = std::move(in.read_end);
  to_ = std::move(out.write_end);
  input = std::move(in.write_end);
  output = std::move(out.read_end);
  for (const UniqueFd* fd : {&from_, &to_, &socket_}) SetNonblocking(*fd);
  return 0;
}

bool SocketBridge::Move() {
  const bool in = MoveIn();
  const bool out = MoveOut();
  return in || out;
}

bool SocketBridge::MoveIn() {
  if (!from_) return false;
  const ssize_t n = Splice(from_, socket_);
  if (n > 0 || n == -EAGAIN) return n > 0;
  if (n == 0) shutdown(socket_.get(), SHUT_WR);  // the client has ended; the program has all of it
  from_.Reset();                                 // else it wants no more: the session sees EPIPE
  return true;
}

bool SocketBridge::MoveOut() {
  if (!to_) return false;
  const ssize_t n = Splice(socket_, to_);
  if (n > 0 || n == -EAGAIN) return n > 0;
  // The client takes no more: the program gets EPIPE, as with a pipe.
  if (n == -EPIPE) shutdown(socket_.get(), SHUT_RD);
  // ECONNRESET: the program closed its socket without having read everything, which is no error
  // with a pipe either. Its exit status says how it meant that.
  pollfd state{socket_.get(), 0, 0};
  half_closed_ = n == 0 && poll(&state, 1, 0) == 0;  // POLLHUP: both directions are shut
  to_.Reset();
  return true;
}

}  // namespace tlsbroker::tools
