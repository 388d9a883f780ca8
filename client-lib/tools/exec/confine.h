// SPDX-License-Identifier: Apache-2.0
// What the process of one connection gives up once its program runs. It has read nothing of the
// peer by then, and from then on it only moves bytes.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <vector>

namespace tlsbroker::tools {

// An allow list of system calls; any other one kills the process, and with it the program
// (PR_SET_PDEATHSIG). Made once and loaded in the process of each connection: libseccomp takes
// longer to make it than the kernel to take it.
class SessionFilter {
 public:
  // 0 or -errno.
  int Make();

  // `program` is the child that this process may wait for, and whose group it may signal. 0 or
  // -errno: then it must not go on.
  int Load(pid_t program) const;

 private:
  std::vector<sock_filter> code_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_CONFINE_H_
