// SPDX-License-Identifier: Apache-2.0
// What the subcommands of `tlsbroker` share. Each runs with its caller's rights and has no key.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_

#include <span>

namespace tlsbroker::tools {

// Exit statuses of all commands, except where the status is that of a program that the command has
// run. They are those of chain-loading programs (ucspi-tcp, s6-networking); see tlsbroker(1).
inline constexpr int kExitOk = 0;
inline constexpr int kExitPermanent = 100;  // usage, or an error that lasts
inline constexpr int kExitTemporary = 111;  // an error that may pass

// `arguments` starts behind the command's name. The result is the exit status.
struct Command {
  const char* name;
  const char* summary;
  int (*run)(std::span<char* const> arguments);
};

int RunConnect(std::span<char* const> arguments);
int RunExec(std::span<char* const> arguments);
int RunProbe(std::span<char* const> arguments);
int RunReload(std::span<char* const> arguments);
int RunRun(std::span<char* const> arguments);
int RunStatus(std::span<char* const> arguments);
int RunWrap(std::span<char* const> arguments);

// Says on stderr if stdout did not take everything; without that the command would seem to have
// succeeded.
int FinishStdout(int status);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_
