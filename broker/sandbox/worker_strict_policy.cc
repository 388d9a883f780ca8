// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/worker_strict_policy.h"

#include <asm/ioctls.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/support/status.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

namespace tlsbroker::sandbox {
namespace {

constexpr int kStrictConnections[] = {
    SCMP_SYS(recvmsg),     SCMP_SYS(recvfrom),    SCMP_SYS(sendmsg), SCMP_SYS(sendto),
    SCMP_SYS(sendfile),    SCMP_SYS(splice),      SCMP_SYS(tee),     SCMP_SYS(shutdown),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(read),    SCMP_SYS(readv),
    SCMP_SYS(write),       SCMP_SYS(writev),      SCMP_SYS(close),   SCMP_SYS(close_range)};

constexpr int kWaiting[] = {SCMP_SYS(poll),
                            SCMP_SYS(ppoll),
                            SCMP_SYS(select),
                            SCMP_SYS(pselect6),
                            SCMP_SYS(epoll_create),
                            SCMP_SYS(epoll_create1),
                            SCMP_SYS(epoll_ctl),
                            SCMP_SYS(epoll_wait),
                            SCMP_SYS(epoll_pwait),
                            SCMP_SYS(epoll_pwait2),
                            SCMP_SYS(eventfd2),
                            SCMP_SYS(timerfd_create),
                            SCMP_SYS(timerfd_gettime),
                            SCMP_SYS(timerfd_settime),
                            SCMP_SYS(pipe),
                            SCMP_SYS(pipe2)};

// Landlock decides which files these calls may reach.
constexpr int kFiles[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),     SCMP_SYS(openat2),    SCMP_SYS(pread64),
    SCMP_SYS(preadv),     SCMP_SYS(preadv2),    SCMP_SYS(pwrite64),   SCMP_SYS(pwritev),
    SCMP_SYS(lseek),      SCMP_SYS(fstat),      SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx),      SCMP_SYS(statfs),     SCMP_SYS(fstatfs),
    SCMP_SYS(access),     SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(readlink),
    SCMP_SYS(readlinkat), SCMP_SYS(getdents64), SCMP_SYS(getcwd),     SCMP_SYS(chdir),
    SCMP_SYS(dup),        SCMP_SYS(dup2),       SCMP_SYS(dup3),       SCMP_SYS(copy_file_range),
    SCMP_SYS(fadvise64),  SCMP_SYS(readahead),  SCMP_SYS(umask),      SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),  SCMP_SYS(fsync),      SCMP_SYS(fdatasync),  SCMP_SYS(flock),
    SCMP_SYS(unlink),     SCMP_SYS(unlinkat),   SCMP_SYS(rename),     SCMP_SYS(renameat),
    SCMP_SYS(renameat2),  SCMP_SYS(mkdir),      SCMP_SYS(mkdirat)};

constexpr int kStrictMemory[] = {SCMP_SYS(brk),    SCMP_SYS(mmap),     SCMP_SYS(munmap),
                                 SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
                                 SCMP_SYS(mlock),  SCMP_SYS(munlock),  SCMP_SYS(membarrier)};

constexpr int kThreads[] = {SCMP_SYS(futex),
                            SCMP_SYS(set_robust_list),
                            SCMP_SYS(get_robust_list),
                            SCMP_SYS(rseq),
                            SCMP_SYS(set_tid_address),
                            SCMP_SYS(sched_yield),
                            SCMP_SYS(sched_getaffinity),
                            SCMP_SYS(exit),
                            SCMP_SYS(exit_group),
                            SCMP_SYS(arch_prctl),
                            SCMP_SYS(restart_syscall)};

constexpr int kStrictTime[] = {SCMP_SYS(clock_gettime),   SCMP_SYS(clock_getres),
                               SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
                               SCMP_SYS(gettimeofday),    SCMP_SYS(time)};

constexpr int kStrictItself[] = {
    SCMP_SYS(getpid),    SCMP_SYS(getppid),   SCMP_SYS(gettid),    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),   SCMP_SYS(getgid),    SCMP_SYS(getegid),   SCMP_SYS(getresuid),
    SCMP_SYS(getresgid), SCMP_SYS(getgroups), SCMP_SYS(getrandom), SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage), SCMP_SYS(sysinfo),   SCMP_SYS(uname),     SCMP_SYS(times)};

constexpr int kSignals[] = {
    SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),  SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigsuspend), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigpending),
    SCMP_SYS(sigaltstack),   SCMP_SYS(signalfd4),       SCMP_SYS(pause)};

// Not F_SETOWN and F_SETSIG: a descriptor whose owner is another process sends it signals.
constexpr int kDescriptorCommands[] = {
    F_GETFD,  F_SETFD,     F_GETFL,     F_SETFL,      F_DUPFD,         F_GETLK,      F_SETLK,
    F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_SETPIPE_SZ};

// Not SO_ATTACH_FILTER and its like, which put programs into the kernel.
constexpr int kSocketOptions[] = {SO_TYPE,     SO_DOMAIN,   SO_PROTOCOL, SO_ACCEPTCONN, SO_ERROR,
                                  SO_PEERCRED, SO_COOKIE,   SO_RCVBUF,   SO_SNDBUF,     SO_RCVLOWAT,
                                  SO_RCVTIMEO, SO_SNDTIMEO, SO_LINGER,   SO_KEEPALIVE};
constexpr int kTcpOptions[] = {TCP_NODELAY, TCP_CORK, TCP_QUICKACK, TCP_INFO, TCP_NOTSENT_LOWAT};

void AllowOptions(SeccompFilter& filter) {
  for (const int command : kDescriptorCommands) filter.Allow(SCMP_SYS(fcntl), {Is(1, command)});
  for (const int call : {SCMP_SYS(getsockopt), SCMP_SYS(setsockopt)}) {
    for (const int option : kSocketOptions) filter.Allow(call, {Is(1, SOL_SOCKET), Is(2, option)});
    for (const int option : kTcpOptions) filter.Allow(call, {Is(1, IPPROTO_TCP), Is(2, option)});
  }
}

// The filter is loaded in the process that becomes the worker, so its number is known.
void AllowSignalsToItself(SeccompFilter& filter) {
  filter.AllowAll(kSignals)
      .Allow(SCMP_SYS(kill), {Is(0, getpid())})
      .Allow(SCMP_SYS(tgkill), {Is(0, getpid())});
}

void AllowWithConditions(SeccompFilter& filter) {
  filter.Allow(SCMP_SYS(clone), {Has(0, CLONE_VM | CLONE_THREAD)})
      .Allow(SCMP_SYS(prlimit64), {Is(0, 0)})
      .Allow(SCMP_SYS(prctl), {Is(0, PR_SET_NAME)})
      .Allow(SCMP_SYS(prctl), {Is(0, PR_GET_NAME)})
      .Allow(SCMP_SYS(prctl), {Is(0, PR_SET_VMA)})
      // For the answers to requests (PROTOCOL.md section 6).
      .Allow(SCMP_SYS(socketpair), {Is(0, AF_UNIX), Is(1, SOCK_SEQPACKET | SOCK_CLOEXEC)});
  for (const int request : {FIONREAD, FIONBIO, FIOCLEX, TCGETS}) {
    filter.Allow(SCMP_SYS(ioctl), {Is(1, request)});
  }
}

// "#!/usr/bin/python3 -u" names /usr/bin/python3; empty if the file is no script.
std::string InterpreterOf(const std::string& program) {
  std::ifstream file(program, std::ios::binary);
  std::string line(256, '\0');  // as much as the kernel looks at (BINPRM_BUF_SIZE)
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<size_t>(file.gcount()));
  if (!line.starts_with("#!")) return "";
  const size_t begin = line.find_first_not_of(" \t", 2);
  if (begin == std::string::npos) return "";
  return line.substr(begin, line.find_first_of(" \t\r\n", begin) - begin);
}

}  // namespace

absl::Status LoadStrictFilter() {
  SeccompFilter filter = SeccompFilter::RefuseList();
  filter.AllowAll(kStrictConnections)
      .AllowAll(kWaiting)
      .AllowAll(kFiles)
      .AllowAll(kStrictMemory)
      .AllowAll(kThreads)
      .AllowAll(kStrictTime)
      .AllowAll(kStrictItself);
  AllowOptions(filter);
  AllowSignalsToItself(filter);
  AllowWithConditions(filter);
  // clone3's flags are in memory, where a filter cannot see them. On ENOSYS libraries use clone.
  filter
      .Deny(ENOSYS, SCMP_SYS(clone3))
      // Still to come, in this order: loading the other filter, and executing the program. Landlock
      // decides which program that may be.
      .Allow(SCMP_SYS(seccomp))
      .Allow(SCMP_SYS(execve));
  return filter.Load();
}

absl::Status AllowOnlyProgram(Landlock& files, const std::string& program) {
  using Access = Landlock::Access;
  for (const char* path : {"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc"}) {
    RETURN_IF_ERROR(files.AllowIfPresent(path, Access::kRead));
  }
  for (const char* loader : {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"}) {
    RETURN_IF_ERROR(files.AllowIfPresent(loader, Access::kReadExecute));
  }
  const std::string interpreter = InterpreterOf(program);
  if (interpreter == "/usr/bin/env" || interpreter == "/bin/env") {
    return absl::InvalidArgumentError(
        absl::StrCat(program,
                     " starts by env(1), which the profile \"strict\" does not allow: name the"
                     " interpreter itself in its first line"));
  }
  if (!interpreter.empty()) RETURN_IF_ERROR(files.Allow(interpreter, Access::kReadExecute));
  return files.Allow(program, Access::kReadExecute);
}

}  // namespace tlsbroker::sandbox
