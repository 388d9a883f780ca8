// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/broker_process.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "broker/sandbox/capabilities.h"
#include "broker/sandbox/landlock.h"
#include "broker/sandbox/namespaces.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/sanitizer.h"
#include "broker/sandbox/user.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

absl::Status ForbidFiles() {
  ASSIGN_OR_RETURN(Landlock nothing, Landlock::Create(Landlock::Network::kNone));
  return nothing.Enforce();
}

constexpr int kMemory[] = {SCMP_SYS(brk),     SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mlock),
                           SCMP_SYS(munlock), SCMP_SYS(futex),  SCMP_SYS(mlock2)};
// What allocators use. Not MADV_REMOVE, which takes pages out of the memory that the supervisor
// reads as well: the supervisor would get new ones, which count for it, or a signal if there are
// none.
constexpr int kAdvice[] = {MADV_DONTNEED,   MADV_FREE,     MADV_HUGEPAGE,
                           MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_WIPEONFORK};

constexpr int kTime[] = {SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
                         SCMP_SYS(gettimeofday),  SCMP_SYS(time),
                         SCMP_SYS(nanosleep),     SCMP_SYS(clock_nanosleep)};

constexpr int kItself[] = {SCMP_SYS(getpid),         SCMP_SYS(gettid),       SCMP_SYS(getrandom),
                           SCMP_SYS(getrusage),      SCMP_SYS(sched_yield),  SCMP_SYS(sysinfo),
                           SCMP_SYS(exit),           SCMP_SYS(exit_group),   SCMP_SYS(rt_sigaction),
                           SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
                           SCMP_SYS(restart_syscall)};

}  // namespace

MissingParts MissingInBrokerProcess(const Machine& machine) {
  MissingParts missing;
  if (!machine.root) missing.Add("a user of its own (not root)");
  if (!machine.namespaces) {
    missing.Add("an empty root and own namespaces (no CAP_SYS_ADMIN, or unshare(2) is refused)");
  } else if (!machine.mounts) {
    missing.Add("an empty root and own mounts (the root directory is no mount point)");
  }
  if (machine.landlock_version == 0) missing.Add("Landlock (not in this kernel)");
  return missing;
}

absl::Status GiveUpPrivileges(const supervision::Confinement& confinement, int namespaces,
                              std::string_view role) {
  const Machine machine = Machine::Inspect();
  if (machine.root && !confinement.change_user) {
    return absl::FailedPreconditionError("refusing to serve as root: no user was given");
  }
  MissingInBrokerProcess(machine).Log(role);

  RETURN_IF_ERROR(RequireSingleThread());
  RETURN_IF_ERROR(ForbidDumps());
  if (machine.namespaces) {
    RETURN_IF_ERROR(EnterNamespaces(machine.mounts ? namespaces : namespaces & ~CLONE_NEWNS));
  }
  if (machine.mounts) RETURN_IF_ERROR(EnterEmptyRoot());
  if (machine.root) {
    RETURN_IF_ERROR(ForbidGainingCapabilities());
    RETURN_IF_ERROR(BecomeUser(confinement.uid, confinement.gid));
  }
  RETURN_IF_ERROR(DropCapabilities());
  RETURN_IF_ERROR(SetNoNewPrivileges());
  RETURN_IF_ERROR(ForbidDumps());
  RETURN_IF_ERROR(ForbidProcesses());
  return ForbidFiles();
}

void AllowComputing(SeccompFilter& filter) {
  filter
      .AllowAll(kMemory)
      // No mapping of files. A page of a file may come from whoever serves its file system, as late
      // as they like, and a write(2) from such a page to a pipe would wait for it with the pipe
      // locked. The process that has the other end would then wait in read(2) for good.
      .Allow(SCMP_SYS(mmap), {HasNot(2, PROT_EXEC), Has(3, MAP_ANONYMOUS)})
      .Allow(SCMP_SYS(mprotect), {HasNot(2, PROT_EXEC)})
      .AllowAll(kTime)
      .AllowAll(kItself)
      // For abort(3), but no signal to the other processes of this user.
      .Allow(SCMP_SYS(tgkill), {Is(0, getpid())});
  for (const int advice : kAdvice) filter.Allow(SCMP_SYS(madvise), {Is(2, advice)});
  AllowSanitizer(filter);
}

}  // namespace tlsbroker::sandbox
