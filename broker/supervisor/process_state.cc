// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/process_state.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {
namespace {

char ReadState(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t n = file ? read(file.get(), text, sizeof(text)) : 0;
  return n > 0 ? ParseState({text, static_cast<size_t>(n)}) : ProcessState::kUnknown;
}

}  // namespace

char ParseState(std::string_view stat) {
  // Behind the program's name in parentheses, which may hold any character: ") R ".
  const size_t name_end = stat.rfind(')');
  if (name_end == stat.npos || name_end + 3 >= stat.size()) return ProcessState::kUnknown;
  if (stat[name_end + 1] != ' ' || stat[name_end + 3] != ' ') return ProcessState::kUnknown;
  return stat[name_end + 2];
}

std::optional<ProcessState> ReadProcessState(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
    return std::nullopt;
  return ProcessState{ReadState(pid),
                      std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec)};
}

}  // namespace tlsbroker::supervisor
