// The bridge of one connection: what the client sends goes into the program, what the program
// writes goes to the client, by splice(2), while the kernel or the broker does the TLS records. A
// process of its own, confined as the worker that started it, and no key in it. Both sides are
// strangers.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_

#include <chrono>
#include <string>
#include <vector>

#include "client-lib/tools/exec/confine.h"
#include "client-lib/tools/exec/options.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

// A connection and what can be found out about it before it has a process: after fork(2) the same
// costs a page fault for almost every line of code.
struct Task {
  Task(Connection taken, const ExecOptions& options);

  Connection connection;
  std::string name;  // of the connection, in every line of the log
  std::vector<std::string> environment;
  std::chrono::steady_clock::time_point started;
};

// Until the program has ended and the connection with it. SIGTERM, which is blocked, ends both.
// This process loads the filter.
void ServeByProgram(Task task, const ExecOptions& options, const SessionFilter& filter);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
