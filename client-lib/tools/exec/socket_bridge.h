// SPDX-License-Identifier: Apache-2.0
// For a program that wants a socket: the pipes that a session splices to and from, and behind them
// one end of a socketpair, whose other end is the program's. splice(2) needs a pipe on one side.
// Runs in a session's process; the program is a stranger.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SOCKET_BRIDGE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SOCKET_BRIDGE_H_

#include <array>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class SocketBridge {
 public:
  // Fills in the ends of pipes that the session uses as it uses those of a program's standard input
  // and output, and the program's end of the socketpair. 0 or -errno.
  int Open(UniqueFd& input, UniqueFd& output, UniqueFd& program_end);

  // Moves what can be moved without waiting; false if that was nothing, not even an end.
  bool Move();

  // The program has shut its sending direction down and still has the socket: it ended its output
  // on purpose, whereas a closed socket may also be the end of a program that failed.
  bool half_closed() const { return half_closed_; }

  // To be watched for edge-triggered events in both directions; non-blocking.
  std::array<int, 3> descriptors() const { return {from_.get(), to_.get(), socket_.get()}; }

 private:
  bool MoveIn();
  bool MoveOut();

  UniqueFd from_, to_;  // the inner ends of the pipes
  UniqueFd socket_;
  bool half_closed_ = false;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SOCKET_BRIDGE_H_
