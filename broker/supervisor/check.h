// tlsbrokerd --check: all that a start checks, without listening anywhere. A keyholder looks
// whether keys and certificates belong together: the supervisor has no code that could.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CHECK_H_
#define TLSBROKER_BROKER_SUPERVISOR_CHECK_H_

#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

void CheckConfiguration(Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CHECK_H_
