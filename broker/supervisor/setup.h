// Everything that one configuration names, opened and looked up: what generations and workers are
// started from. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SETUP_H_
#define TLSBROKER_BROKER_SUPERVISOR_SETUP_H_

#include <memory>
#include <string>
#include <vector>

#include "broker/supervisor/accounts.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/credentials.h"
#include "broker/supervisor/listeners.h"
#include "broker/supervisor/queue.h"
#include "broker/supervisor/upstreams.h"

namespace tlsbroker::supervisor {

struct Setup {
  std::string file;
  Config config;
  Accounts accounts;
  std::vector<Credential> credentials;  // by certificate
  Trust trust;
  std::vector<Listener> listeners;
  std::vector<std::shared_ptr<Queue>> queues;  // by service
  uint32_t handshakers = 0;                    // how many to start
};

// All but listeners and queues: what --check looks at. Complaints go to `diagnostics`; the result
// is for use only if that has not failed.
Setup CheckSetup(Diagnostics& diagnostics);

// All of it. Listeners and queues of `previous`, which may be null, go on in the new setup. Nothing
// of `previous` is changed if it fails.
Setup OpenSetup(Diagnostics& diagnostics, const InheritedSockets& inherited, const Setup* previous);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SETUP_H_
