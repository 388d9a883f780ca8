// What the process of one connection gives up once its program runs. It has read nothing of the
// peer by then, and from then on it only moves bytes.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_

#include <sys/types.h>

namespace tlsbroker::tools {

// Loads an allow list of system calls; any other one kills this process, and with it the program
// (PR_SET_PDEATHSIG). `program` is the child that it may wait for, and whose group it may signal.
// 0 or -errno: then it must not go on.
int ConfineSession(pid_t program);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_
