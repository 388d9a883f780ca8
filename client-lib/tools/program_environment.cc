// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/program_environment.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "broker/support/program_variable.h"

namespace tlsbroker::tools {

std::vector<std::string> ProgramVariables() {
  std::vector<std::string> variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view variable = *each;
    if (variable.starts_with(kProgramVariable))
      variables.emplace_back(variable.substr(kProgramVariable.size()));
  }
  return variables;
}

void TakeProgramVariables() {
  for (const std::string& variable : ProgramVariables()) {
    const size_t name = variable.find('=');
    unsetenv((std::string(kProgramVariable) + variable.substr(0, name)).c_str());
    setenv(variable.substr(0, name).c_str(), variable.c_str() + name + 1, 1);
  }
}

}  // namespace tlsbroker::tools
