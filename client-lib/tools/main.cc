// SPDX-License-Identifier: Apache-2.0
// `tlsbroker`: picks the subcommand. Runs with its caller's rights; links neither OpenSSL nor
// Abseil.

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "broker/support/closest.h"
#include "client-lib/tools/command.h"

namespace tlsbroker::tools {
namespace {

#if defined(__SANITIZE_ADDRESS__)
// At the end of a process LeakSanitizer looks into /proc, which no worker can see, and makes system
// calls for which the filter kills a confined worker.
bool g_is_worker = false;
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return g_is_worker ? 1 : 0; }

void NoteWorker(std::string_view command) {
  g_is_worker = command == "exec" || command == "run" || command == "wrap";
}
#else
void NoteWorker(std::string_view) {}
#endif

constexpr std::array kCommands = {
    Command{"connect", "a TLS client as a filter for stdin and stdout", RunConnect},
    Command{"exec", "run a program that knows stdin and stdout for each connection", RunExec},
    Command{"probe", "what kernel TLS can do on this machine, and why not", RunProbe},
    Command{"reload", "has a running broker read its configuration again, and says what came of it",
            RunReload},
    Command{"run", "run a daemon that listens and accepts, and answer it with TLS connections",
            RunRun},
    Command{"status", "what a running broker does: services, workers, certificates, limits hit",
            RunStatus},
    Command{"wrap", "run a program behind TLS on the TCP connection that is stdin", RunWrap},
};

void PrintUsage(FILE* to) {
  fputs("usage: tlsbroker COMMAND [ARGUMENT]...\n\n", to);
  for (const Command& command : kCommands)
    fprintf(to, "  %-8s %s\n", command.name, command.summary);
  fputs("\n`tlsbroker COMMAND --help` says more. See tlsbroker(1).\n", to);
}

int Run(std::span<char* const> arguments) {
  if (arguments.empty()) {
    PrintUsage(stderr);
    return kExitPermanent;
  }
  const std::string_view first = arguments.front();
  if (first == "--help" || first == "-h") {
    PrintUsage(stdout);
    return FinishStdout(kExitOk);
  }
  if (first == "--version") {
    puts("tlsbroker " TLSBROKER_VERSION);
    return FinishStdout(kExitOk);
  }
  if (first == "--complete") {  // for the shell, as each command's (options.cc)
    for (const Command& command : kCommands) printf("%s\t%s\n", command.name, command.summary);
    return FinishStdout(kExitOk);
  }
  NoteWorker(first);
  for (const Command& command : kCommands) {
    if (first == command.name) return command.run(arguments.subspan(1));
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) names.emplace_back(command.name);
  const std::string closest = Closest(first, names);
  const std::string guess = closest.empty() ? "" : "did you mean \"" + closest + "\"? ";
  fprintf(stderr, "tlsbroker: no command \"%s\"; %s`tlsbroker --help` lists them\n", arguments[0],
          guess.c_str());
  return kExitPermanent;
}

}  // namespace

int FinishStdout(int status) {
  if (fflush(stdout) == 0 && ferror(stdout) == 0) return status;
  fprintf(stderr, "tlsbroker: writing to stdout: %s\n", strerror(errno));
  return kExitTemporary;
}

}  // namespace tlsbroker::tools

int main(int argc, char* argv[]) {
  const std::span<char* const> all(argv, static_cast<size_t>(argc));
  return tlsbroker::tools::Run(all.subspan(argc > 0 ? 1 : 0));
}
