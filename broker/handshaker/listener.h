// SPDX-License-Identifier: Apache-2.0
// An address where clients come in, and the service that serves them. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_LISTENER_H_
#define TLSBROKER_BROKER_HANDSHAKER_LISTENER_H_

#include "broker/handshaker/service.h"

namespace tlsbroker {

struct Listener {
  Service& service;  // serves the clients that come in here
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_LISTENER_H_
