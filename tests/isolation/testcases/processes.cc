// SPDX-License-Identifier: Apache-2.0
// Attacks on other processes; the first argument is the process.

#include <linux/capability.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

pid_t Target(const Arguments& arguments) { return std::stoi(arguments.at(0)); }

int Trace(const Arguments& arguments) {
  return ErrorOf(ptrace(PTRACE_SEIZE, Target(arguments), nullptr, nullptr));
}

// The second argument is an address in that process.
int ReadMemory(const Arguments& arguments) {
  char byte;
  const iovec here = {.iov_base = &byte, .iov_len = 1};
  const iovec there = {.iov_base = reinterpret_cast<void*>(Register(arguments.at(1))),
                       .iov_len = 1};
  return ErrorOf(process_vm_readv(Target(arguments), &here, 1, &there, 1, 0));
}

int WriteMemory(const Arguments& arguments) {
  char byte = 0;
  const iovec here = {.iov_base = &byte, .iov_len = 1};
  const iovec there = {.iov_base = reinterpret_cast<void*>(Register(arguments.at(1))),
                       .iov_len = 1};
  return ErrorOf(process_vm_writev(Target(arguments), &here, 1, &there, 1, 0));
}

int TakeDescriptor(const Arguments& arguments) {
  const long pidfd = syscall(SYS_pidfd_open, Target(arguments), 0);
  if (pidfd < 0) return errno;
  return ErrorOf(syscall(SYS_pidfd_getfd, pidfd, STDERR_FILENO, 0));
}

int Compare(const Arguments& arguments) {
  return ErrorOf(syscall(SYS_kcmp, getpid(), Target(arguments), KCMP_FILE, 2, 2));
}

int Signal(const Arguments& arguments) { return ErrorOf(kill(Target(arguments), 0)); }

// For setuid programs that were executed: has this one become root?
int BeRoot(const Arguments&) { return geteuid() == 0 ? 0 : EPERM; }

// As BIND's named does, which ends if it cannot.
int KeepCapabilities(const Arguments&) { return ErrorOf(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)); }

// Keeps capabilities, and tries whatever could have given any.
int GainCapabilities(const Arguments&) {
  const auto has_some = [] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    if (syscall(SYS_capget, &header, data) != 0) return false;
    return (data[0].permitted | data[1].permitted | data[0].effective | data[1].effective) != 0;
  };
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return errno;
  (void)!setuid(0);
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct all[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}};
  (void)syscall(SYS_capset, &header, all);
  (void)prctl(PR_SET_SECUREBITS, 0, 0, 0, 0);
  return has_some() ? 0 : EPERM;
}

// Writes to the descriptor in the argument that this program runs, and stays.
int Stay(const Arguments& arguments) {
  if (write(std::stoi(arguments.at(0)), "!", 1) != 1) return errno;
  for (;;) pause();
}

constexpr Attack kAttacks[] = {
    {"ptrace", Trace},
    {"read-memory", ReadMemory},
    {"write-memory", WriteMemory},
    {"pidfd-getfd", TakeDescriptor},
    {"kcmp", Compare},
    {"signal", Signal},
    {"be-root", BeRoot},
    {"keep-capabilities", KeepCapabilities},
    {"gain-capabilities", GainCapabilities},
    {"stay", Stay},
};

}  // namespace

std::span<const Attack> ProcessAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
