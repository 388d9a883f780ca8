// SPDX-License-Identifier: Apache-2.0
// The files of the configuration: the main one, and those in the directory conf.d beside it, which
// make one configuration together. Runs in the supervisor; whoever writes these files is trusted,
// as is the environment that the supervisor was started with.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CONFIG_FILES_H_
#define TLSBROKER_BROKER_SUPERVISOR_CONFIG_FILES_H_

#include <toml++/toml.h>

#include <string>
#include <string_view>
#include <vector>

#include "broker/supervisor/diagnostics.h"

namespace tlsbroker::supervisor {

// The tables of one text. Variables of the environment in its strings are replaced after it was
// parsed, so that no value of theirs becomes a key or a table. `file` is empty for the main one.
// The result is for use only if `diagnostics` has not failed.
toml::table ParseTables(std::string_view text, std::string_view file, Diagnostics& diagnostics);

// The tables of all files. `files` gets their names.
toml::table ReadTables(std::vector<std::string>& files, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CONFIG_FILES_H_
