// SPDX-License-Identifier: Apache-2.0
// A connection before its handshake: accepted, a worker's own, or made to an upstream. Runs in the
// handshaker; the other end belongs to a stranger.

#ifndef TLSBROKER_BROKER_HANDSHAKER_TCP_CONNECTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_TCP_CONNECTION_H_

#include <optional>
#include <string>

#include "broker/handshaker/admission.h"
#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"
#include "broker/handshaker/traffic_secrets.h"
#include "protocol/handoff.h"

namespace tlsbroker {

// Nothing was read from it yet.
struct TcpConnection {
  AsyncFd socket;
  handoff::Endpoint peer, local;
  Admission::Place place;  // among the handshakes under way; empty if it is counted elsewhere
  bool of_worker = false;  // it came from a worker, which still has the socket
  bool has_ulp = false;    // TCP_ULP "tls" is set; plain TCP until keys are installed
  std::string ulp_reason;  // why not
};

// Socket options that have to be set before the first byte.
void Prepare(const Shared& shared, const Service& service, TcpConnection& connection);

// Acknowledges at once what was read last, in case nothing is sent that would carry the
// acknowledgement.
void AcknowledgeNow(int socket);

// Why this connection will not be handed over as a kernel TLS socket; empty if it may. `suite` is
// nullopt for one that the kernel does not know. Why not once is why not for ever.
std::string WhyNotKtls(const Shared& shared, const Service& service,
                       const TcpConnection& connection, TlsVersion version,
                       std::optional<Suite> suite);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_TCP_CONNECTION_H_
