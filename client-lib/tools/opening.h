// SPDX-License-Identifier: Apache-2.0
// What `tlsbroker connect` and `tlsbroker wrap` share: the service that they ask, the options of a
// client, and which exit status a failure is.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_OPENING_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_OPENING_H_

#include <string>
#include <vector>

#include "protocol/unique_fd.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

struct ClientOptions {
  std::string name;
  std::vector<std::string> alpn;
  std::string certificate;  // empty: none
};

// Attaches to the service and has `socket` wrapped. 0, or a negative result, of which stderr says
// why.
int WrapSocket(const char* command, const std::string& service_socket, UniqueFd socket,
               tlsbroker_role role, const ClientOptions& options, Connection& connection);

// 100 for what will be the same the next time, 111 for what may pass.
int ExitStatusOf(int result);

int SayWhy(const char* command, const char* what, int result);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_OPENING_H_
