// SPDX-License-Identifier: Apache-2.0
// tlsbrokerd --check: all that a start checks, without listening anywhere. Keyholders look into
// keys and certificates, and keyholder and handshaker of each service load them: the supervisor has
// no code that could.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CHECK_H_
#define TLSBROKER_BROKER_SUPERVISOR_CHECK_H_

#include <string>
#include <vector>

#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

struct Checked {
  std::vector<std::string> certificates;  // a line about each
  std::vector<std::string> files;         // of the configuration
};

Checked CheckConfiguration(Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CHECK_H_
