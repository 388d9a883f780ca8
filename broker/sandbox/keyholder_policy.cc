// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/keyholder_policy.h"

#include <sched.h>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/descriptors.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

constexpr int kKeyholderNamespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET;

// For its pipes, the log, and the files of keys that the supervisor has opened for it.
constexpr int kFiles[] = {SCMP_SYS(poll),  SCMP_SYS(ppoll), SCMP_SYS(read),
                          SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(pread64)};

absl::Status LoadKeyholderFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kFiles);
  filter.Allow(SCMP_SYS(recvmsg), {Is(0, kControlDescriptor)});  // its only socket
  return filter.Load();
}

}  // namespace

absl::Status ConfineKeyholder(const supervision::Confinement& confinement) {
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kKeyholderNamespaces, "keyholder"));
  return LoadKeyholderFilter();
}

}  // namespace tlsbroker::sandbox
