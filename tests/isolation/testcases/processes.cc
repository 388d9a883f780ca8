// Attacks on other processes; the first argument is the process.

#include <linux/kcmp.h>
#include <signal.h>
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

// The second argument is an address there.
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

// For exec'd setuid programs: is this one root?
int BeRoot(const Arguments&) { return geteuid() == 0 ? 0 : EPERM; }

// Says on the descriptor given that it runs, and stays.
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
    {"stay", Stay},
};

}  // namespace

std::span<const Attack> ProcessAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
