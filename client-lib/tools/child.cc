// SPDX-License-Identifier: Apache-2.0
// See the header.

#include "client-lib/tools/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxOutput = 1 << 20;

// Starts the child with `output` as its stdout. Returns 0 or an errno.
int Start(const std::vector<std::string>& command, int output, pid_t& pid) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& each : command) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  const int error = posix_spawn(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// Reads to the end of the stream; false when the time is up or the room is used up.
bool ReadAll(int from, Clock::time_point deadline, std::string& to) {
  char buffer[4096];
  while (to.size() < kMaxOutput) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd entry = {from, POLLIN, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::max<long>(left, 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t got = read(from, buffer, sizeof(buffer));
    if (got == 0) return true;
    if (got < 0 && errno != EINTR) return false;
    if (got > 0) to.append(buffer, static_cast<size_t>(got));
  }
  return false;
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) return std::string("was ended by ") + strsignal(WTERMSIG(status));
  return "exited with status " + std::to_string(WEXITSTATUS(status));
}

int WaitFor(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

std::filesystem::path OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

}  // namespace

ChildResult RunChild(const std::vector<std::string>& command, std::chrono::milliseconds limit) {
  ChildResult result;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    result.error = std::string("could not get a pipe: ") + strerror(errno);
    return result;
  }
  const UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  pid_t pid = 0;
  if (const int error = Start(command, input.get(), pid); error != 0) {
    result.error = std::string("could not be started: ") + strerror(error);
    return result;
  }
  input.Reset();
  const bool ended = ReadAll(output.get(), Clock::now() + limit, result.output);
  if (!ended) kill(pid, SIGKILL);
  const int status = WaitFor(pid);
  result.ok = ended && status == 0;
  if (!ended) {
    result.error = "gave no result in time";
  } else if (status != 0) {
    result.error = DescribeEnd(status);
  }
  return result;
}

std::string FindSibling(const std::string& build_folder, const std::string& name) {
  // This executable is client-lib/tools/tlsbroker there.
  const std::filesystem::path in_tree = OwnFolder() / ".." / ".." / build_folder / name;
  std::error_code error;
  if (OwnFolder() != TLSBROKER_BINDIR && std::filesystem::exists(in_tree, error)) {
    return in_tree.lexically_normal();
  }
  return std::string(TLSBROKER_LIBEXECDIR "/") + name;
}

}  // namespace tlsbroker::tools
