// SPDX-License-Identifier: Apache-2.0
// How the supervisor passes a variable of `environment` to `tlsbroker exec` and `tlsbroker run`:
// its name has this in front, so that it is for the program that they start and means nothing to
// them (LD_PRELOAD, PATH). The command line would show its value to everybody. Internal, like the
// options of these commands.

#ifndef TLSBROKER_BROKER_SUPPORT_PROGRAM_VARIABLE_H_
#define TLSBROKER_BROKER_SUPPORT_PROGRAM_VARIABLE_H_

#include <string_view>

namespace tlsbroker {

inline constexpr std::string_view kProgramVariable = "TLSBROKER_PROGRAM_";

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_PROGRAM_VARIABLE_H_
