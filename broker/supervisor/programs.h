// SPDX-License-Identifier: Apache-2.0
// Where the programs of the other roles are. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PROGRAMS_H_
#define TLSBROKER_BROKER_SUPERVISOR_PROGRAMS_H_

#include <string>

namespace tlsbroker::supervisor {

struct Programs {
  std::string keyholder;
  std::string handshaker;
  std::string logger;
  std::string porter;
  std::string tool;  // tlsbroker(1), whose `exec` and `run` are workers for other programs
};

// The installed ones for an installed tlsbrokerd, else those of the same build tree.
Programs FindPrograms();

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PROGRAMS_H_
