// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/logger_policy.h"

#include <sched.h>
#include <sys/socket.h>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

constexpr int kLoggerNamespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET;

// For the control socket, pipes, and an output that is no socket.
constexpr int kDescriptors[] = {SCMP_SYS(recvmsg), SCMP_SYS(poll),  SCMP_SYS(ppoll),
                                SCMP_SYS(read),    SCMP_SYS(write), SCMP_SYS(close)};

absl::Status LoadLoggerFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kDescriptors);
  // For send(2) to what the output is connected to already: with no address, and no descriptor.
  filter.Allow(SCMP_SYS(sendto), {Is(3, MSG_DONTWAIT | MSG_NOSIGNAL), Masked(4, ~uint64_t{0}, 0)});
  return filter.Load();
}

}  // namespace

absl::Status ConfineLogger(const supervision::Confinement& confinement) {
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kLoggerNamespaces, "logger"));
  return LoadLoggerFilter();
}

}  // namespace tlsbroker::sandbox
