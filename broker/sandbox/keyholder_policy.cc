#include "broker/sandbox/keyholder_policy.h"

#include <sched.h>

#include "broker/sandbox/broker_process.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

constexpr int kNamespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;

// Messages over the channels that it has, and the log.
constexpr int kChannels[] = {SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(poll), SCMP_SYS(ppoll),
                             SCMP_SYS(read),    SCMP_SYS(write),   SCMP_SYS(close)};

absl::Status LoadFilter() {
  SeccompFilter filter = SeccompFilter::AllowList();
  AllowComputing(filter);
  filter.AllowAll(kChannels);
  return filter.Load();
}

}  // namespace

absl::Status ConfineKeyholder(const supervision::Confinement& confinement) {
  RETURN_IF_ERROR(GiveUpPrivileges(confinement, kNamespaces, "keyholder"));
  return LoadFilter();
}

}  // namespace tlsbroker::sandbox
