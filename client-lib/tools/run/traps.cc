// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/traps.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

// Linux 6.6: the caller runs on this processor as soon as its call is answered.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

namespace tlsbroker::tools {
namespace {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

constexpr int kTrapped[] = {SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
                            SCMP_SYS(getpeername)};

// A worker's filter allows these calls for the sake of the runner alone
// (broker/sandbox/worker_policy.cc), which has the connections of all clients. The daemon must not
// make them.
constexpr int kRunnersOwn[] = {SCMP_SYS(pidfd_getfd), SCMP_SYS(process_vm_readv),
                               SCMP_SYS(process_vm_writev), SCMP_SYS(ptrace)};

constexpr scmp_arg_cmp Is(unsigned argument, uint32_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffff, value};
}

// A listener with TCP_DEFER_ACCEPT is not woken before the client has sent something, and a knock
// sends nothing (runner.h). So the option does nothing here: setsockopt(2) says that it is set. The
// daemon sees no difference but when it accepts.
int AddDeferredAccept(scmp_filter_ctx filter) {
  const scmp_arg_cmp option[] = {Is(1, IPPROTO_TCP), Is(2, TCP_DEFER_ACCEPT)};
  return seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(0), SCMP_SYS(setsockopt), 2, option);
}

// Only to an Internet address, as far as the size of an address tells.
int AddConnect(scmp_filter_ctx filter) {
  int result = 0;
  for (const uint32_t size : {sizeof(sockaddr_in), sizeof(sockaddr_in6)}) {
    const scmp_arg_cmp condition = Is(2, size);
    if (result == 0)
      result = seccomp_rule_add_array(filter, SCMP_ACT_NOTIFY, SCMP_SYS(connect), 1, &condition);
  }
  return result;
}

int AddRules(scmp_filter_ctx filter) {
  int result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  if (result == 0) result = AddDeferredAccept(filter);
  if (result == 0) result = AddConnect(filter);
  for (const int call : kTrapped) {
    if (result == 0) result = seccomp_rule_add_array(filter, SCMP_ACT_NOTIFY, call, 0, nullptr);
  }
  for (const int call : kRunnersOwn) {
    if (result == 0)
      result = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), call, 0, nullptr);
  }
  return result;
}

}  // namespace

int LoadTraps() {
  const Filter filter(seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (!filter) return -ENOMEM;
  int result = AddRules(filter.get());
  if (result == 0) result = seccomp_load(filter.get());
  return result == 0 ? seccomp_notify_fd(filter.get()) : result;
}

Traps::Traps(UniqueFd fd) : fd_(std::move(fd)) {
  (void)ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

bool Traps::Receive(TrappedCall& call) const {
  seccomp_notif notification{};
  if (ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) return false;
  call.id = notification.id;
  call.thread = static_cast<pid_t>(notification.pid);
  call.number = notification.data.nr;
  std::copy_n(notification.data.args, 6, call.arguments);
  return true;
}

bool Traps::IsWaiting(const TrappedCall& call) const {
  uint64_t id = call.id;
  return ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

// An error means that the call waits no more; then there is nobody to be told.
void Traps::Respond(const TrappedCall& call, int64_t value, int error, uint32_t flags) const {
  seccomp_notif_resp response{.id = call.id, .val = value, .error = -error, .flags = flags};
  (void)ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

void Traps::Continue(const TrappedCall& call) const {
  Respond(call, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}
void Traps::Return(const TrappedCall& call, int64_t value) const { Respond(call, value, 0, 0); }
void Traps::Fail(const TrappedCall& call, int error) const { Respond(call, 0, error, 0); }

int Traps::ReturnDescriptor(const TrappedCall& call, int fd, bool close_on_exec) const {
  seccomp_notif_addfd add{};
  add.id = call.id;
  add.flags = SECCOMP_ADDFD_FLAG_SEND;
  add.srcfd = static_cast<uint32_t>(fd);
  add.newfd_flags = close_on_exec ? O_CLOEXEC : 0;
  return ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -errno : 0;
}

}  // namespace tlsbroker::tools
