// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/log_output.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "broker/support/status.h"
#include "protocol/logger_messages.h"

namespace tlsbroker::supervisor {
namespace {

constexpr char kStandardError[] = "/proc/self/fd/2";
constexpr int kFlags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

// The name of the file that is standard error, if the file still has that name.
std::string NameOf(const struct stat& standard_error) {
  char path[PATH_MAX];
  const ssize_t n = readlink(kStandardError, path, sizeof(path));
  if (n <= 0 || static_cast<size_t>(n) == sizeof(path)) return "";
  std::string name(path, static_cast<size_t>(n));
  struct stat named;
  const bool same = lstat(name.c_str(), &named) == 0 && named.st_dev == standard_error.st_dev &&
                    named.st_ino == standard_error.st_ino;
  return same ? name : "";
}

}  // namespace

LogOutput::LogOutput() : priorities_(isatty(STDERR_FILENO) == 0) {
  struct stat status {};
  (void)fstat(STDERR_FILENO, &status);
  socket_ = S_ISSOCK(status.st_mode);
  if (S_ISREG(status.st_mode)) path_ = NameOf(status);
  if (!socket_) fd_ = UniqueFd(open(kStandardError, kFlags));
  if (!fd_) fd_ = UniqueFd(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
}

absl::StatusOr<supervision::LogOutput> LogOutput::Message() const {
  UniqueFd copy(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return ErrnoStatus("copying standard error");
  return supervision::LogOutput{
      .priorities = priorities_, .socket = socket_, .fd = std::move(copy)};
}

// Not through a symbolic link, nor into anything but a file: whoever may write in that directory
// must not choose what root appends to.
absl::Status LogOutput::Reopen() {
  UniqueFd file(open(path_.c_str(), kFlags | O_CREAT | O_NOFOLLOW, 0640));
  if (!file) return ErrnoStatus(path_);
  struct stat status;
  if (fstat(file.get(), &status) != 0) return ErrnoStatus(path_);
  if (!S_ISREG(status.st_mode))
    return absl::FailedPreconditionError(path_ + ": not a regular file");
  if (dup2(file.get(), STDERR_FILENO) < 0) return ErrnoStatus(path_);
  fd_ = std::move(file);
  return absl::OkStatus();
}

}  // namespace tlsbroker::supervisor
