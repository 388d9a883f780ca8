// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/log_lines.h"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "broker/support/log.h"

namespace tlsbroker::tools {
namespace {

// A log line stays one write(2), and whole in a pipe (PIPE_BUF), even if four characters stand for
// each one.
constexpr size_t kMaxLine = 900;

}  // namespace

bool LogLines::Copy(UniqueFd& fd, const std::string& name) {
  if (!fd) return false;
  std::array<char, 4096> buffer;
  const ssize_t n = read(fd.get(), buffer.data(), buffer.size());
  if (n < 0) return errno == EINTR;
  if (n == 0) {
    fd.Reset();
    return false;
  }
  for (const char c : std::string_view(buffer.data(), static_cast<size_t>(n))) {
    if (c != '\n') begun_ += c;
    if (c == '\n' || begun_.size() == kMaxLine) Flush(name);
  }
  return true;
}

void LogLines::Flush(const std::string& name) {
  if (begun_.empty()) return;
  log::Notice("stderr" + name + log::Field("text", begun_));
  begun_.clear();
}

}  // namespace tlsbroker::tools
