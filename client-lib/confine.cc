// SPDX-License-Identifier: Apache-2.0
// The filter of a worker that attaches itself (PROTOCOL.md section 1.1): from here on this process
// and all that it starts cannot reach the keys that the kernel has for a connection, nor copy
// connections that the service's other workers are to get. Part of libtlsbroker. A worker that the
// supervisor starts has the same rules and more from broker/sandbox/worker_policy.cc.

#include "client-lib/confine.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <mutex>

#include "client-lib/filter.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

namespace tlsbroker::client {
namespace {

int AddRules(scmp_filter_ctx filter) {
  constexpr uint32_t kDeny = SCMP_ACT_ERRNO(EPERM);
  const scmp_arg_cmp level = Is(1, SOL_TLS);
  const scmp_arg_cmp ulp[] = {Is(1, IPPROTO_TCP), Is(2, TCP_ULP)};
  int result = seccomp_rule_add_array(filter, kDeny, SCMP_SYS(getsockopt), 1, &level);
  if (result == 0) result = seccomp_rule_add_array(filter, kDeny, SCMP_SYS(setsockopt), 1, &level);
  if (result == 0) result = seccomp_rule_add_array(filter, kDeny, SCMP_SYS(setsockopt), 2, ulp);
  // MSG_PEEK on the queue would copy the descriptor of a connection that waits there.
  const scmp_arg_cmp peek[] = {Masked(2, MSG_PEEK, MSG_PEEK), Masked(3, MSG_PEEK, MSG_PEEK)};
  if (result == 0) result = seccomp_rule_add_array(filter, kDeny, SCMP_SYS(recvmsg), 1, &peek[0]);
  if (result == 0) result = seccomp_rule_add_array(filter, kDeny, SCMP_SYS(recvmmsg), 1, &peek[1]);
  // Requests of io_uring get and set options, and receive, past any filter.
  for (const int call :
       {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register)}) {
    if (result == 0) result = seccomp_rule_add_array(filter, kDeny, call, 0, nullptr);
  }
  return result;
}

int LoadFilter() {
  const Filter filter(seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  if (!filter) return -ENOMEM;
  // libseccomp kills other system call tables (int 0x80, x32) by itself: SCMP_FLTATR_ACT_BADARCH.
  int result = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  // The filter is for all threads. It needs no CAP_SYS_ADMIN, since libseccomp sets no_new_privs.
  if (result == 0) result = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (result == 0) result = AddRules(filter.get());
  if (result == 0) result = seccomp_load(filter.get());
  return result;
}

}  // namespace

int GiveUpKeys() {
  // The filter is loaded once: a worker attaches again and again, and the kernel takes only so many
  // filters. A forked child inherits both the filter and this variable.
  static std::mutex mutex;
  static bool given_up = false;
  const std::lock_guard lock(mutex);
  if (given_up) return 0;
  const int result = LoadFilter();
  given_up = result == 0;
  return result;
}

}  // namespace tlsbroker::client
