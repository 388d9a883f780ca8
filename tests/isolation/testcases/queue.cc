// SPDX-License-Identifier: Apache-2.0
// Attempts to copy the connection that waits first in the queue and to leave it there for another
// worker. The attacker has the queue in the place of a connection; flags are whole registers.

#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

// Room for a packet and one descriptor.
struct Room {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  mmsghdr message{};

  Room() {
    message.msg_hdr.msg_iov = &part;
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = control;
    message.msg_hdr.msg_controllen = sizeof(control);
  }
  // 0 if a usable descriptor came.
  int Result() {
    const cmsghdr* header = CMSG_FIRSTHDR(&message.msg_hdr);
    if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return ENOMSG;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return ErrorOf(write(fd, "x", 1));
  }
};

int Receive(const Arguments& arguments) {
  Room room;
  const long n =
      syscall(SYS_recvmsg, kConnectionFd, &room.message.msg_hdr, Register(arguments.at(0)));
  return n < 0 ? errno : room.Result();
}

int ReceiveSeveral(const Arguments& arguments) {
  Room room;
  const long n =
      syscall(SYS_recvmmsg, kConnectionFd, &room.message, 1, Register(arguments.at(0)), nullptr);
  return n < 0 ? errno : room.Result();
}

// Succeeds if a packet can be seen and no descriptor came with it.
int ReceiveBytes(const Arguments& arguments) {
  const int next = dup(kConnectionFd);
  close(next);
  char byte;
  const long n =
      syscall(SYS_recvfrom, kConnectionFd, &byte, 1, Register(arguments.at(0)), nullptr, nullptr);
  if (n < 0) return errno;
  return n == 1 && dup(kConnectionFd) == next ? 0 : EPROTO;
}

constexpr Attack kAttacks[] = {
    {"queue-recvmsg", Receive},
    {"queue-recvmmsg", ReceiveSeveral},
    {"queue-recvfrom", ReceiveBytes},
};

}  // namespace

std::span<const Attack> QueueAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
