// SPDX-License-Identifier: Apache-2.0
// `tlsbroker reload`: has a running broker reload, and waits for the result. The broker reads
// nothing from strangers, so this command sends SIGHUP to it and then reads its status report. The
// pidfd that comes with the report is the supervisor's; a process number could be another process's
// by now.

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
#include <variant>

#include "client-lib/tools/command.h"
#include "client-lib/tools/options.h"
#include "client-lib/tools/status_socket.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kCommand[] = "tlsbroker reload";
constexpr int kPauseMs = 50;
// A generation has a minute to become ready, and may have to wait for another one first.
constexpr std::chrono::seconds kReloadTimeLimit{150};

std::variant<std::string, int> ParseReload(std::span<char* const> arguments) {
  std::string runtime_dir = kDefaultRuntimeDir;
  const CommandLine line{
      .command = "reload",
      .usage = "[OPTION]...",
      .about =
          "Has a running broker read its configuration, keys and certificates again, and waits "
          "until the new ones are in force or the old ones stay.",
      .exit_status =
          "0 the new ones are in force; 100 usage, or they are not, and why is said; 111 "
          "no broker answers, or not in time.",
      .options = {Text("runtime-dir", "DIR", runtime_dir, kRuntimeDirHelp)}};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  return runtime_dir;
}

int Fail(const std::string& why, int status = kExitTemporary) {
  fprintf(stderr, "%s: %s\n", kCommand, why.c_str());
  return status;
}

// The part of the report that is about reloads.
struct State {
  UniqueFd supervisor;  // a pidfd
  bool stopping = false;
  uint64_t begun = 0;
  uint64_t done = 0;
  size_t services = 0;
  std::vector<std::string> started;
  std::vector<std::string> removed;
  std::vector<std::string> errors;  // of the last reload
};

std::variant<State, int> Ask(const std::string& runtime_dir) {
  auto asked = AskForStatus(kCommand, runtime_dir);
  if (const int* status = std::get_if<int>(&asked)) return *status;
  auto& answer = std::get<StatusAnswer>(asked);
  try {
    const auto report = nlohmann::json::parse(answer.report);
    State state{.supervisor = std::move(answer.supervisor),
                .stopping = report.at("state") == "stopping",
                .begun = report.at("reloads_begun")};
    if (const auto& last = report.at("last_reload"); !last.is_null()) {
      state.done = last.at("number");
      state.errors = last.at("errors");
      state.started = last.at("started");
      state.removed = last.at("removed");
    }
    state.services = report.at("services").size();
    return state;
  } catch (const nlohmann::json::exception& error) {
    return Fail(std::string("the broker is of another version: ") + error.what(), kExitPermanent);
  }
}

class Reload {
 public:
  explicit Reload(const std::string& runtime_dir) : runtime_dir_(runtime_dir) {}

  int Run() {
    auto asked = Ask(runtime_dir_);
    if (const int* status = std::get_if<int>(&asked)) return *status;
    State& before = std::get<State>(asked);
    if (before.stopping) return Fail("the broker is stopping");
    broker_ = std::move(before.supervisor);
    if (syscall(SYS_pidfd_send_signal, broker_.get(), SIGHUP, nullptr, 0) == 0)
      return Wait(before.begun + 1);
    if (errno == EBADF) return Fail("the broker is of another version", kExitPermanent);
    // EINVAL of pidfd_send_signal(2): the broker is not in our pid namespace, nor below it.
    if (errno == EINVAL)
      return Fail(
          "the broker runs in another pid namespace; ask its service manager, or send it SIGHUP",
          kExitPermanent);
    return Fail(std::string("the broker cannot be signalled: ") + strerror(errno), kExitPermanent);
  }

 private:
  // Waits for the first reload that began after this command did, be it by this signal or another.
  int Wait(uint64_t number) const {
    const Clock::time_point deadline = Clock::now() + kReloadTimeLimit;
    while (Clock::now() < deadline) {
      pollfd ended{broker_.get(), POLLIN, 0};
      if (poll(&ended, 1, kPauseMs) > 0) return Fail("the broker has ended");
      const auto asked = Ask(runtime_dir_);
      if (const int* status = std::get_if<int>(&asked)) return *status;
      const State& state = std::get<State>(asked);
      if (state.done >= number) return Tell(state);
      if (state.stopping) return Fail("the broker is stopping");
    }
    return Fail("the reload has not ended in time; the broker's log may say why");
  }

  static std::string List(const std::vector<std::string>& services) {
    std::string text;
    for (const std::string& service : services) text += (text.empty() ? "" : ", ") + service;
    return text.empty() ? "none" : text;
  }

  static int Tell(const State& state) {
    if (state.errors.empty()) {
      printf("reloaded; new processes: %s; removed: %s; unchanged: %zu\n",
             List(state.started).c_str(), List(state.removed).c_str(),
             state.services - state.started.size());
      return FinishStdout(kExitOk);
    }
    for (const std::string& error : state.errors) fprintf(stderr, "%s\n", error.c_str());
    return Fail("the previous configuration stays in force", kExitPermanent);
  }

  const std::string& runtime_dir_;
  UniqueFd broker_;
};

}  // namespace

int RunReload(std::span<char* const> arguments) {
  const auto parsed = ParseReload(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  return Reload(std::get<std::string>(parsed)).Run();
}

}  // namespace tlsbroker::tools
