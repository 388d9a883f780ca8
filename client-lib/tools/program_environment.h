// SPDX-License-Identifier: Apache-2.0
// The variables that the broker's configuration has for the program that `tlsbroker exec` or
// `tlsbroker run` starts (broker/support/program_variable.h). Runs with the worker's rights.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_PROGRAM_ENVIRONMENT_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_PROGRAM_ENVIRONMENT_H_

#include <string>
#include <vector>

namespace tlsbroker::tools {

// "NAME=value", of those in our own environment.
std::vector<std::string> ProgramVariables();

// Makes the variables of this process those of the program.
void TakeProgramVariables();

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_PROGRAM_ENVIRONMENT_H_
