// SPDX-License-Identifier: Apache-2.0
// What a worker and the log are told about a connection. Runs in the handshaker; names and
// certificates in it come from the peer.

#ifndef TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_

#include <chrono>
#include <string>

#include "broker/handshaker/tcp_connection.h"
#include "protocol/handoff.h"

namespace tlsbroker {

// All but the mode and its reason.
handoff::Description Describe(const std::string& service, const TcpConnection& connection,
                              SSL* ssl);

// The log's only line about a connection.
std::string LogLine(const handoff::Description& description,
                    std::chrono::steady_clock::duration handshake_time);

// The log line of a connection that no worker gets. `error` is an errno of sendmsg(2).
std::string LostLine(const handoff::Description& description, int error);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_
