#include "broker/sandbox/handshaker_policy.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

// Its listeners are in the network namespace of the supervisor, and so is what it accepts; a
// namespace of its own would take nothing from it that the filter does not.
constexpr int kNamespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;

constexpr int kEventLoop[] = {
    SCMP_SYS(epoll_create),   SCMP_SYS(epoll_create1),   SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),     SCMP_SYS(epoll_pwait),     SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),           SCMP_SYS(ppoll),           SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(pipe),
    SCMP_SYS(pipe2)};

// No socket, connect, bind or listen: there are the sockets that it was given, and their clients.
constexpr int kConnections[] = {SCMP_SYS(accept4),  SCMP_SYS(read),        SCMP_SYS(readv),
                                SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),     SCMP_SYS(write),
                                SCMP_SYS(writev),   SCMP_SYS(getsockname), SCMP_SYS(close),
                                SCMP_SYS(splice),   SCMP_SYS(shutdown),    SCMP_SYS(getpeername)};

// Relays need streams. A pair of datagram sockets would be more: with sendto it reaches every
// datagram socket that has a name.
void AllowPairs(SeccompFilter& filter) {
  constexpr uint64_t kTypeMask = 0xf;  // SOCK_TYPE_MASK; SOCK_CLOEXEC and SOCK_NONBLOCK are above
  for (const uint64_t type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    filter.Allow(SCMP_SYS(socketpair), {Is(0, AF_UNIX), Masked(1, kTypeMask, type)});
  }
}

void AllowSocketCalls(SeccompFilter& filter) {
  // Fast open would be a connect (tcp(7)).
  filter.Allow(SCMP_SYS(sendto), {HasNot(3, MSG_FASTOPEN)})
      .Allow(SCMP_SYS(sendmsg), {HasNot(2, MSG_FASTOPEN)});
  for (const int level : {SOL_SOCKET, int{IPPROTO_TCP}, SOL_TLS}) {
    filter.Allow(SCMP_SYS(getsockopt), {Is(1, level)}).Allow(SCMP_SYS(setsockopt), {Is(1, level)});
  }
  for (const int request : {FIONBIO, FIONREAD, SIOCOUTQ}) {
    filter.Allow(SCMP_SYS(ioctl), {Is(1, request)});
  }
  for (const int command : {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC}) {
    filter.Allow(SCMP_SYS(fcntl), {Is(1, command)});
  }
}

absl::Status LoadFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kEventLoop).AllowAll(kConnections);
  AllowPairs(filter);
  AllowSocketCalls(filter);
  filter.Allow(SCMP_SYS(flock));  // of the one file that it has
  return filter.Load();
}

}  // namespace

absl::Status ConfineHandshaker(const supervision::Confinement& confinement) {
  RETURN_IF_ERROR(RaiseDescriptorLimit());
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kNamespaces, "handshaker"));
  return LoadFilter();
}

}  // namespace tlsbroker::sandbox
