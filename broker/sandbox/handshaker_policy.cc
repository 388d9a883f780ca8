// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/handshaker_policy.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

#include <cstdint>
#include <fstream>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

// No network namespace: a handshaker's listeners, and what it accepts, are in that of the
// supervisor, and one of its own would take nothing from it that the filter does not take.
constexpr int kHandshakerNamespaces = CLONE_NEWNS | CLONE_NEWIPC;

// The loop itself, and its timer, were made before. What x86-64 has as epoll_wait and poll other
// machines have as epoll_pwait and ppoll alone.
constexpr int kEventLoop[] = {SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
                              SCMP_SYS(poll),      SCMP_SYS(ppoll),      SCMP_SYS(timerfd_settime)};

// No socket, connect, bind or listen: a handshaker has the sockets that it was given, and their
// clients. The C library needs writev to say what it has found wrong with the heap before it
// aborts. No splice: it holds the lock of a pipe while it waits for data of a socket
// (splice_file_to_pipe in fs/splice.c), and the keyholder or logger that has the other end would
// wait in read(2), O_NONBLOCK or not.
constexpr int kHandshakerConnections[] = {
    SCMP_SYS(accept4),     SCMP_SYS(read),        SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),     SCMP_SYS(write),       SCMP_SYS(writev),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(close)};

// By level and name. Everything else is refused, since sockets are shared: what is set on a
// listener holds for the next generation of handshakers, too, and what is set on the queue holds
// for workers.
struct SocketOption {
  int level;
  int name;
};

constexpr SocketOption kReadOptions[] = {
    // To check that a worker has sent the kind of socket that it should.
    {SOL_SOCKET, SO_DOMAIN},
    {SOL_SOCKET, SO_TYPE},
    {SOL_SOCKET, SO_PROTOCOL},
    {SOL_SOCKET, SO_ACCEPTCONN},
    // To check that a rekey token belongs to this socket, and to the keys that the connection has
    // now.
    {SOL_SOCKET, SO_COOKIE},
    {SOL_TLS, TLS_TX},
    {SOL_TLS, TLS_RX},
    // The result of the connect to an upstream.
    {SOL_SOCKET, SO_ERROR}};

constexpr SocketOption kSetOptions[] = {{SOL_SOCKET, SO_KEEPALIVE},
                                        {IPPROTO_TCP, TCP_KEEPIDLE},
                                        {IPPROTO_TCP, TCP_KEEPINTVL},
                                        {IPPROTO_TCP, TCP_KEEPCNT},
                                        {IPPROTO_TCP, TCP_USER_TIMEOUT},
                                        {IPPROTO_TCP, TCP_NODELAY},
                                        {IPPROTO_TCP, TCP_CORK},
                                        {IPPROTO_TCP, TCP_QUICKACK},
                                        {IPPROTO_TCP, TCP_ULP},
                                        {SOL_TLS, TLS_TX},
                                        {SOL_TLS, TLS_RX}};

void AllowSocketOptions(SeccompFilter& filter) {
  for (const auto& [level, name] : kReadOptions) {
    filter.Allow(SCMP_SYS(getsockopt), {Is(1, level), Is(2, name)});
  }
  for (const auto& [level, name] : kSetOptions) {
    filter.Allow(SCMP_SYS(setsockopt), {Is(1, level), Is(2, name)});
  }
}

void AllowSocketCalls(SeccompFilter& filter) {
  // Relays need streams. A pair of datagram sockets would be more: with sendto it reaches every
  // datagram socket that has a name.
  constexpr uint64_t kTypeMask = 0xf;  // SOCK_TYPE_MASK; SOCK_CLOEXEC and SOCK_NONBLOCK are above
  filter
      .Allow(SCMP_SYS(socketpair), {Is(0, AF_UNIX), Masked(1, kTypeMask, SOCK_STREAM)})
      // Fast open would be a connect (tcp(7)).
      .Allow(SCMP_SYS(sendto), {HasNot(3, MSG_FASTOPEN)})
      .Allow(SCMP_SYS(sendmsg), {HasNot(2, MSG_FASTOPEN)})
      // SHUT_RD would stop a listener, in all processes that have it (inet_shutdown()).
      .Allow(SCMP_SYS(shutdown), {Is(1, SHUT_WR)})
      .Allow(SCMP_SYS(ioctl), {Is(1, FIONBIO)})
      .Allow(SCMP_SYS(ioctl), {Is(1, SIOCOUTQ)});  // of a worker's end of a relay
  for (const int command : {F_GETFL, F_SETFL, F_DUPFD_CLOEXEC}) {
    filter.Allow(SCMP_SYS(fcntl), {Is(1, command)});
  }
}

// One handshaker may have as many descriptors as an eighth of what its user may watch, since
// services may share a user.
constexpr uint64_t kShareOfWatches = 8;

uint64_t WatchesOfAUser() {
  std::ifstream file("/proc/sys/fs/epoll/max_user_watches");
  uint64_t watches = 0;
  if (file >> watches) return watches;
  // The shipped units hide that file (ProcSubset=). By default the kernel allows as many watches as
  // fit into a 25th of the memory (eventpoll_init in fs/eventpoll.c), at not more than 256 bytes
  // each.
  struct sysinfo machine {};
  if (sysinfo(&machine) != 0) return UINT64_MAX;
  return uint64_t{machine.totalram} * machine.mem_unit / 25 / 256;
}

absl::Status LoadHandshakerFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kEventLoop).AllowAll(kHandshakerConnections);
  AllowSocketCalls(filter);
  AllowSocketOptions(filter);
  // For the lock that the service's handshakers share (rekey_lock). The filter does not check whose
  // descriptor it is; nobody waits for a lock of any other that is open here.
  filter.Allow(SCMP_SYS(fcntl), {Is(1, F_SETLK)});
  return filter.Load();
}

}  // namespace

absl::Status ConfineHandshaker(const supervision::Confinement& confinement,
                               const std::function<absl::Status()>& prepare) {
  RETURN_IF_ERROR(RaiseDescriptorLimit(WatchesOfAUser() / kShareOfWatches));
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kHandshakerNamespaces, "handshaker"));
  RETURN_IF_ERROR(prepare());
  return LoadHandshakerFilter();
}

}  // namespace tlsbroker::sandbox
