// The bridge of one connection: what the client sends goes into the program, what the program
// writes goes to the client, by splice(2), while the kernel or the broker does the TLS records. A
// process of its own, confined as the worker that started it, and no key in it. Both sides are
// strangers.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_

#include "client-lib/tools/exec/options.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

// Until the program has ended and the connection with it. SIGTERM, which is blocked, ends both.
void ServeByProgram(Connection connection, const ExecOptions& options);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_SESSION_H_
