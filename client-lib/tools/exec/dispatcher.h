// SPDX-License-Identifier: Apache-2.0
// `tlsbroker exec`: takes connections from a service's queue and starts a process for each.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_DISPATCHER_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_DISPATCHER_H_

#include <sys/types.h>

#include <map>
#include <string>

#include "client-lib/tools/exec/confine.h"
#include "client-lib/tools/exec/options.h"
#include "client-lib/tools/heartbeat.h"
#include "protocol/unique_fd.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

class Dispatcher {
 public:
  explicit Dispatcher(const ExecOptions& options) : options_(options) {}

  // Serves until SIGTERM comes, or the broker is gone for good, and then until the programs that
  // run have ended. A second SIGTERM ends them, too; SIGINT does so at once. Returns the exit
  // status.
  int Run();

 private:
  int Attach();
  void Wait();
  void TakeConnections();
  void Serve(Connection connection);
  void TakeSignals();
  void Reap();
  void EndSessions();
  bool MayStart() const {
    return !ending_ && queue_ && sessions_.size() < options_.max_connections;
  }

  const ExecOptions& options_;
  SessionFilter filter_;
  Queue queue_;
  UniqueFd signals_;
  Heartbeat heartbeat_ = Heartbeat::FromEnvironment();
  std::map<pid_t, std::string> sessions_;      // with their clients' addresses
  std::map<std::string, uint32_t> by_source_;  // how many each address has
  uint64_t refused_ = 0;
  bool ending_ = false;       // no more connections
  bool told_to_end_ = false;  // by SIGTERM
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_DISPATCHER_H_
