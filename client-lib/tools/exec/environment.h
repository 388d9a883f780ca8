// SPDX-License-Identifier: Apache-2.0
// What an exec'd program is told about its connection: the variables of UCSPI, systemd, CGI and
// mod_ssl.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_ENVIRONMENT_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_ENVIRONMENT_H_

#include <string>
#include <vector>

#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::tools {

// The whole environment, "NAME=value". Nothing in it has a control character, whatever the peer
// sent: those become '?'.
std::vector<std::string> EnvironmentOf(const tlsbroker_conn* conn);

// An address as text, without its port: "192.0.2.1", "2001:db8::1".
std::string AddressText(const sockaddr* address);

// The connection's id as the broker's log has it.
std::string IdText(const tlsbroker_conn* conn);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_ENVIRONMENT_H_
