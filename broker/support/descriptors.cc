// SPDX-License-Identifier: Apache-2.0
#include "broker/support/descriptors.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "broker/support/report.h"

namespace tlsbroker {
namespace {

bool IsDevNull(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// -1 if there is no such option, for example because `fd` is no socket.
int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool IsPipe(int fd, int access_mode) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) &&
         (fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (access_mode | O_NONBLOCK);
}

// For a socket of a pair these are the credentials of the process that made the pair (unix(7)).
bool IsMadeByParent(int channel) {
  ucred maker{};
  socklen_t size = sizeof(maker);
  return getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 && maker.pid == getppid();
}

}  // namespace

bool TakeInitialDescriptors() {
  if (!IsDevNull(STDIN_FILENO) || !IsDevNull(STDOUT_FILENO) || !IsChannel(kControlDescriptor) ||
      !IsMadeByParent(kControlDescriptor) || !OpenReports(kReportDescriptor, kRingDescriptor)) {
    return false;
  }
  return close_range(kReportDescriptor + 1, ~0U, 0) == 0;
}

bool IsChannel(int fd) { return IsUnixSocket(fd, SOCK_SEQPACKET); }

bool IsUnixSocket(int fd, int type) {
  return SocketOption(fd, SO_DOMAIN) == AF_UNIX && SocketOption(fd, SO_TYPE) == type &&
         SocketOption(fd, SO_ACCEPTCONN) == 0;
}

bool IsPipeForReading(int fd) { return IsPipe(fd, O_RDONLY); }

bool IsPipeForWriting(int fd) { return IsPipe(fd, O_WRONLY); }

bool IsTcpSocket(int fd) {
  const int domain = SocketOption(fd, SO_DOMAIN);
  return (domain == AF_INET || domain == AF_INET6) && SocketOption(fd, SO_PROTOCOL) == IPPROTO_TCP;
}

bool IsSealedFile(int fd) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  return fcntl(fd, F_GET_SEALS) == kSeals && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

bool IsReadOnlyFile(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
         (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
}

}  // namespace tlsbroker
