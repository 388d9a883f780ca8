#include "broker/support/descriptors.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace tlsbroker {
namespace {

bool IsDevNull(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// -1 if there is no such option, as on what is no socket.
int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

// Of a pair these are the credentials of who made it (unix(7)).
bool IsMadeByParent(int channel) {
  ucred maker{};
  socklen_t size = sizeof(maker);
  return getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 && maker.pid == getppid();
}

}  // namespace

bool TakeInitialDescriptors() {
  if (!IsDevNull(STDIN_FILENO) || !IsDevNull(STDOUT_FILENO) || !IsChannel(kControlDescriptor) ||
      !IsMadeByParent(kControlDescriptor)) {
    return false;
  }
  return close_range(kControlDescriptor + 1, ~0U, 0) == 0;
}

bool IsChannel(int fd) {
  return SocketOption(fd, SO_DOMAIN) == AF_UNIX && SocketOption(fd, SO_TYPE) == SOCK_SEQPACKET &&
         SocketOption(fd, SO_ACCEPTCONN) == 0;
}

bool IsTcpListener(int fd) {
  const int domain = SocketOption(fd, SO_DOMAIN);
  return (domain == AF_INET || domain == AF_INET6) &&
         SocketOption(fd, SO_PROTOCOL) == IPPROTO_TCP && SocketOption(fd, SO_ACCEPTCONN) == 1;
}

bool IsReadOnlyFile(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
         (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
}

}  // namespace tlsbroker
