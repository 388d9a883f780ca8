// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/porter_policy.h"

#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/descriptors.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

// A Unix socket with a name is found by its file, whatever network namespace the listener is in.
constexpr int kPorterNamespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET;

constexpr int kPorterConnections[] = {SCMP_SYS(listen), SCMP_SYS(accept4), SCMP_SYS(sendmsg),
                                      SCMP_SYS(poll),   SCMP_SYS(ppoll),   SCMP_SYS(close)};

absl::Status LoadFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kPorterConnections);
  // Messages and descriptors come from the supervisor alone. pread(2) cannot read a socket: it is
  // for files in memory, with the state of the broker.
  filter.Allow(SCMP_SYS(recvmsg), {Is(0, kControlDescriptor)}).Allow(SCMP_SYS(pread64));
  for (const int fd : {STDERR_FILENO, kReportDescriptor})
    filter.Allow(SCMP_SYS(write), {Is(0, fd)});
  // To learn who connected, and what the socket is that the supervisor sends.
  for (const int option : {SO_PEERCRED, SO_PEERGROUPS, SO_DOMAIN, SO_TYPE, SO_ACCEPTCONN})
    filter.Allow(SCMP_SYS(getsockopt), {Is(1, SOL_SOCKET), Is(2, option)});
  return filter.Load();
}

}  // namespace

absl::Status ConfinePorter(const supervision::Confinement& confinement) {
  RETURN_IF_ERROR(RaiseDescriptorLimit());
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kPorterNamespaces, "porter"));
  return LoadFilter();
}

}  // namespace tlsbroker::sandbox
