// SPDX-License-Identifier: Apache-2.0
// Serves one connection: what the client sends goes into the program, what the program writes goes
// to the client, by splice(2), while the kernel or the broker does the TLS records. It is a process
// of its own, confined as the worker that started it, with no key in it. Both sides are strangers.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_

#include <chrono>
#include <string>
#include <vector>

#include "client-lib/tools/exec/confine.h"
#include "client-lib/tools/exec/options.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

// A connection and what can be found out about it before it has a process: to find out the same
// after fork(2) costs a page fault for almost every line of code.
struct Task {
  Task(Connection taken, const ExecOptions& options);

  Connection connection;
  std::string name;  // of the connection, in every line of the log
  std::vector<std::string> environment;
  std::chrono::steady_clock::time_point started;
};

// Serves until the program, and the connection with it, has ended. SIGTERM, which is blocked, ends
// both. Loads the filter into this process.
void ServeByProgram(Task task, const ExecOptions& options, const SessionFilter& filter);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
