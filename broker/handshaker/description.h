// What a worker and the log are told about a connection. Runs in the handshaker; names and
// certificates in it are the peer's words.

#ifndef TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_
#define TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_

#include <chrono>
#include <string>

#include "broker/handshaker/handshake.h"
#include "protocol/handoff.h"

namespace tlsbroker {

// All but the mode and its reason.
handoff::Description Describe(const std::string& service, const Accepted& connection, SSL* ssl);

// The one line that the log has for a connection.
std::string LogLine(const handoff::Description& description,
                    std::chrono::steady_clock::duration handshake_time);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_DESCRIPTION_H_
