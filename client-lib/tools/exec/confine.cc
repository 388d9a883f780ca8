// SPDX-License-Identifier: Apache-2.0
// The allow list of a connection's process: what libtlsbroker makes for one connection (the table
// in client-lib/README.md) and what session.cc makes itself. No file, no new process, no socket but
// the pairs by which keys are changed, no signal but to the program's group.

#include "client-lib/tools/exec/confine.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "client-lib/filter.h"
#include "client-lib/tools/pipe.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

using client::Is;
using client::Masked;

constexpr int kMoving[] = {SCMP_SYS(splice),  SCMP_SYS(read),     SCMP_SYS(recvfrom),
                           SCMP_SYS(recvmsg), SCMP_SYS(shutdown), SCMP_SYS(close)};

constexpr int kWaiting[] = {SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
                            SCMP_SYS(poll),       SCMP_SYS(clock_gettime),
                            SCMP_SYS(ppoll),      SCMP_SYS(restart_syscall)};

// What a process with one thread needs: no locks to wait for, no memory but malloc's first arena.
constexpr int kComputing[] = {SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(exit_group)};

// Placeholders in the filter for process numbers that only a connection's process knows. No process
// has such numbers (PID_MAX_LIMIT).
constexpr pid_t kProgram = 0x7fffff01;
constexpr pid_t kOurselves = 0x7fffff02;

uint32_t Known(uint32_t operand, pid_t program) {
  switch (operand) {
    case static_cast<uint32_t>(kProgram):
      return static_cast<uint32_t>(program);
    case static_cast<uint32_t>(-kProgram):
      return static_cast<uint32_t>(-program);
    case static_cast<uint32_t>(kOurselves):
      return static_cast<uint32_t>(getpid());
    default:
      return operand;
  }
}

// Keeps the first error, so that the rules can be written as one list without checks.
class AllowList {
 public:
  AllowList() : filter_(seccomp_init(SCMP_ACT_KILL_PROCESS), seccomp_release) {
    if (!filter_) {
      error_ = -ENOMEM;
      return;
    }
    // Other system call tables (int 0x80, x32).
    Keep(seccomp_attr_set(filter_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
  }

  // Rows for one call are alternatives; the conditions of a row hold together.
  AllowList& Allow(int call, std::initializer_list<scmp_arg_cmp> conditions = {}) {
    return Add(SCMP_ACT_ALLOW, call, conditions);
  }
  template <size_t size>
  AllowList& Allow(const int (&calls)[size]) {
    for (const int call : calls) Allow(call);
    return *this;
  }
  AllowList& Refuse(int error, int call, std::initializer_list<scmp_arg_cmp> conditions = {}) {
    return Add(SCMP_ACT_ERRNO(static_cast<uint32_t>(error)), call, conditions);
  }

  int Export(std::vector<sock_filter>& code) {
    // A search tree instead of a list of calls: when a filter is loaded the kernel runs it for each
    // call that there is, to see which ones it allows without a look at their arguments.
    Keep(seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));
    const UniqueFd file(memfd_create("filter", MFD_CLOEXEC));
    if (!file) Keep(-errno);
    if (error_ == 0) Keep(seccomp_export_bpf(filter_.get(), file.get()));
    if (error_ == 0) Keep(ReadCode(file.get(), code));
    return error_;
  }

 private:
  AllowList& Add(uint32_t action, int call, std::initializer_list<scmp_arg_cmp> conditions) {
    if (error_ == 0) {
      Keep(seccomp_rule_add_array(filter_.get(), action, call,
                                  static_cast<unsigned>(conditions.size()), conditions.begin()));
    }
    return *this;
  }
  static int ReadCode(int file, std::vector<sock_filter>& code) {
    const off_t size = lseek(file, 0, SEEK_END);
    if (size < 0) return -errno;
    code.resize(static_cast<size_t>(size) / sizeof(sock_filter));
    return pread(file, code.data(), static_cast<size_t>(size), 0) == size ? 0 : -EIO;
  }
  void Keep(int result) {
    if (result < 0 && error_ == 0) error_ = result;
  }

  client::Filter filter_;
  int error_ = 0;
};

void AllowConnection(AllowList& list) {
  constexpr uint32_t kTypeMask = 0xf;  // SOCK_TYPE_MASK; SOCK_CLOEXEC is above
  list.Allow(kMoving)
      .Allow(kWaiting)
      // MSG_FASTOPEN would connect (tcp(7)).
      .Allow(SCMP_SYS(sendmsg), {Masked(2, MSG_FASTOPEN, 0)})
      .Allow(SCMP_SYS(fcntl), {Is(1, F_GETFL)})
      .Allow(SCMP_SYS(fcntl), {Is(1, F_SETFL)})
      .Allow(SCMP_SYS(fcntl), {Is(1, F_SETPIPE_SZ), Is(2, kLargerPipeSize)})
      .Allow(SCMP_SYS(fcntl), {Is(1, F_GETPIPE_SZ)})
      .Allow(SCMP_SYS(ioctl), {Is(1, FIONREAD)})
      .Allow(SCMP_SYS(getsockopt), {Is(1, SOL_SOCKET), Is(2, SO_ERROR)})
      .Allow(SCMP_SYS(setsockopt), {Is(1, SOL_SOCKET), Is(2, SO_RCVTIMEO)})
      .Allow(SCMP_SYS(socketpair), {Is(0, AF_UNIX), Masked(1, kTypeMask, SOCK_SEQPACKET)})
      .Allow(SCMP_SYS(write), {Is(0, STDERR_FILENO)});  // the log
}

// While the program is a zombie (until Program::Reap) no other process has its number.
void AllowProgram(AllowList& list) {
  list.Allow(SCMP_SYS(waitid), {Is(0, P_PID), Is(1, kProgram)})
      .Allow(SCMP_SYS(wait4), {Is(0, kProgram)})
      .Allow(SCMP_SYS(kill), {Is(0, -kProgram)});
}

void AllowComputing(AllowList& list) {
  list.Allow(kComputing).Allow(SCMP_SYS(mmap), {Masked(2, PROT_EXEC, 0)});
}

// What AddressSanitizer's run-time needs besides, to describe an error, with bare addresses, before
// it ends the process. Opening a file fails here instead of killing the process. Nothing of this
// lets the process do more than look at itself.
void AllowSanitizer([[maybe_unused]] AllowList& list) {
#if defined(__SANITIZE_ADDRESS__)
  for (const int call : {SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(getpid),
                         SCMP_SYS(gettid), SCMP_SYS(getrandom), SCMP_SYS(getrusage),
                         SCMP_SYS(sched_yield), SCMP_SYS(exit), SCMP_SYS(rt_sigaction),
                         SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack)}) {
    list.Allow(call);
  }
  list.Allow(SCMP_SYS(mprotect), {Masked(2, PROT_EXEC, 0)})
      .Allow(SCMP_SYS(tgkill), {Is(0, kOurselves)})
      .Refuse(EACCES, SCMP_SYS(open))
      .Refuse(EACCES, SCMP_SYS(openat))
      .Refuse(ENOTTY, SCMP_SYS(ioctl), {Is(1, TCGETS)});
#endif
}

}  // namespace

int SessionFilter::Make() {
  AllowList list;
  AllowConnection(list);
  AllowProgram(list);
  AllowComputing(list);
  AllowSanitizer(list);
  return list.Export(code_);
}

int SessionFilter::Load(pid_t program) const {
  std::vector<sock_filter> code = code_;
  for (sock_filter& step : code) {
    if (BPF_CLASS(step.code) == BPF_JMP) step.k = Known(step.k, program);
  }
  const sock_fprog filter = {static_cast<unsigned short>(code.size()), code.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0 ? 0 : -errno;
}

}  // namespace tlsbroker::tools
