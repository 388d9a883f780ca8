// What the subcommands of `tlsbroker` share. Each runs with its caller's rights and has no key.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_

#include <span>

namespace tlsbroker::tools {

// Exit statuses besides a command's own; tlsbroker(1).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
// Of those that run other programs, as chain-loading ones do (ucspi-tcp, s6-networking).
inline constexpr int kExitPermanent = 100;
inline constexpr int kExitTemporary = 111;

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

// Says so on stderr if stdout did not take everything, which would otherwise pass for a good end.
int FinishStdout(int status);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_COMMAND_H_
