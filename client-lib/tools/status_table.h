// SPDX-License-Identifier: Apache-2.0
// The broker's state for people.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_STATUS_TABLE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_STATUS_TABLE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tlsbroker::tools {

// `status` is the broker's status report (tlsbroker-status(1)). Throws nlohmann's exceptions if it
// is something else.
std::string FormatStatus(const nlohmann::ordered_json& status);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_STATUS_TABLE_H_
