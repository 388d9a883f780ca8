// `tlsbroker reload`: has a running broker reload, and waits for what comes of it. The broker reads
// nothing from strangers, so this is SIGHUP there and the status report back.

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "client-lib/tools/command.h"
#include "client-lib/tools/status_socket.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kCommand[] = "tlsbroker reload";
constexpr int kPauseMs = 50;
// A generation has a minute to become ready, and another one may be in its way.
constexpr std::chrono::seconds kTimeLimit{150};

constexpr char kUsage[] =
    "usage: tlsbroker reload [--runtime-dir DIR]\n"
    "\n"
    "Has a running broker read its configuration, keys and certificates again, and waits\n"
    "until the new ones are in force or the old ones stay.\n"
    "\n"
    "  --runtime-dir DIR  of the broker, \"/run/tlsbroker\" otherwise\n"
    "  --help             this text\n"
    "\n"
    "Exit status: 0 the new ones are in force; 1 they are not, and why is said; 2 usage.\n";

struct Options {
  bool help = false;
  std::string runtime_dir = kDefaultRuntimeDir;
};

std::optional<Options> ParseOptions(std::span<char* const> arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--runtime-dir" && i + 1 < arguments.size()) {
      options.runtime_dir = arguments[++i];
    } else {
      fprintf(stderr, "%s: unexpected argument \"%s\"\n%s", kCommand, arguments[i], kUsage);
      return std::nullopt;
    }
  }
  return options;
}

int Fail(const std::string& why) {
  fprintf(stderr, "%s: %s\n", kCommand, why.c_str());
  return kExitFailed;
}

// What the report says of reloads.
struct State {
  pid_t pid = 0;
  bool stopping = false;
  uint64_t begun = 0;
  uint64_t done = 0;
  uint32_t generation = 0;
  std::vector<std::string> errors;  // of the last one
};

std::optional<State> Ask(const std::string& runtime_dir) {
  const auto answer = AskForStatus(kCommand, runtime_dir);
  if (!answer) return std::nullopt;
  try {
    const auto report = nlohmann::json::parse(answer->report);
    State state{.pid = answer->pid,
                .stopping = report.at("state") == "stopping",
                .begun = report.at("reloads_begun")};
    if (const auto& generation = report.at("generation"); !generation.is_null())
      state.generation = generation;
    if (const auto& last = report.at("last_reload"); !last.is_null()) {
      state.done = last.at("number");
      state.errors = last.at("errors");
    }
    return state;
  } catch (const nlohmann::json::exception& error) {
    Fail(std::string("the broker is of another version: ") + error.what());
    return std::nullopt;
  }
}

class Reload {
 public:
  explicit Reload(const std::string& runtime_dir) : runtime_dir_(runtime_dir) {}

  int Run() {
    const auto before = FindBroker();
    if (!before) return kExitFailed;
    if (before->stopping) return Fail("the broker is stopping");
    if (syscall(SYS_pidfd_send_signal, broker_.get(), SIGHUP, nullptr, 0) != 0)
      return Fail(std::string("the broker cannot be signalled: ") + strerror(errno));
    return Wait(before->begun + 1);
  }

 private:
  // A pid may become another process's. This one has answered before and after it was opened, so
  // that what was opened is the broker.
  std::optional<State> FindBroker() {
    const auto first = Ask(runtime_dir_);
    if (!first) return std::nullopt;
    if (first->pid <= 0) {
      Fail("the broker runs in another pid namespace; ask its service manager, or send it SIGHUP");
      return std::nullopt;
    }
    broker_.Reset(static_cast<int>(syscall(SYS_pidfd_open, first->pid, 0)));
    if (!broker_) {
      Fail(std::string("the broker's process: ") + strerror(errno));
      return std::nullopt;
    }
    auto second = Ask(runtime_dir_);
    if (second && second->pid != first->pid) {
      Fail("the broker was just started anew");
      return std::nullopt;
    }
    return second;
  }

  // For the first reload that began after this command did, be it for this signal or for another.
  int Wait(uint64_t number) const {
    const Clock::time_point deadline = Clock::now() + kTimeLimit;
    while (Clock::now() < deadline) {
      pollfd ended{broker_.get(), POLLIN, 0};
      if (poll(&ended, 1, kPauseMs) > 0) return Fail("the broker has ended");
      const auto state = Ask(runtime_dir_);
      if (!state) return kExitFailed;
      if (state->done >= number) return Tell(*state);
      if (state->stopping) return Fail("the broker is stopping");
    }
    return Fail("the broker does not come to an end with it; its log may say why");
  }

  static int Tell(const State& state) {
    if (state.errors.empty()) {
      printf("reloaded, generation %u serves\n", state.generation);
      return FinishStdout(kExitOk);
    }
    for (const std::string& error : state.errors) fprintf(stderr, "%s\n", error.c_str());
    return Fail("the configuration from before stays in force");
  }

  const std::string& runtime_dir_;
  UniqueFd broker_;
};

}  // namespace

int RunReload(std::span<char* const> arguments) {
  const std::optional<Options> options = ParseOptions(arguments);
  if (!options) return kExitUsage;
  if (options->help) {
    fputs(kUsage, stdout);
    return FinishStdout(kExitOk);
  }
  return Reload(options->runtime_dir).Run();
}

}  // namespace tlsbroker::tools
