// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/worker_policy.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/sandbox/capabilities.h"
#include "broker/sandbox/landlock.h"
#include "broker/sandbox/machine.h"
#include "broker/sandbox/namespaces.h"
#include "broker/sandbox/private_tmp.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/sandbox/user.h"
#include "broker/sandbox/worker_strict_policy.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

using Access = Landlock::Access;

// The keys of a connection are readable and settable by whoever holds its descriptor (KTLS.md).
// Without TCP_ULP the kernel cannot be given others either: a program's own TLS library finds that
// the kernel does no TLS for it, and goes on without.
void DenyKeys(SeccompFilter& filter) {
  filter.Deny(EPERM, SCMP_SYS(getsockopt), {Is(1, SOL_TLS)})
      .Deny(EPERM, SCMP_SYS(setsockopt), {Is(1, SOL_TLS)})
      .Deny(EPERM, SCMP_SYS(setsockopt), {Is(1, IPPROTO_TCP), Is(2, TCP_ULP)});
}

// With MSG_PEEK a worker gets a descriptor of the connection that waits first in the queue
// (unix_peek_fds() in net/unix), and leaves it there for another worker, which then serves a
// connection that this one has, too. recvfrom(2) has no room for descriptors, so programs may look
// with it.
void DenyCopyingFromQueue(SeccompFilter& filter) {
  filter.Deny(EPERM, SCMP_SYS(recvmsg), {Has(2, MSG_PEEK)})
      .Deny(EPERM, SCMP_SYS(recvmmsg), {Has(3, MSG_PEEK)});
}

// io_uring's requests get and set options, and receive, without passing any filter. EPERM is what a
// system with kernel.io_uring_disabled answers.
constexpr int kIoUring[] = {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
                            SCMP_SYS(io_uring_register)};

constexpr int kOtherProcesses[] = {SCMP_SYS(ptrace),          SCMP_SYS(process_madvise),
                                   SCMP_SYS(perf_event_open), SCMP_SYS(kcmp),
                                   SCMP_SYS(move_pages),      SCMP_SYS(migrate_pages)};

// The calls that are needed to answer a daemon; client-lib/tools/run/traps.cc refuses them to the
// daemon itself.
constexpr int kOtherProcessesContents[] = {SCMP_SYS(pidfd_getfd), SCMP_SYS(process_vm_readv),
                                           SCMP_SYS(process_vm_writev)};

constexpr int kMounts[] = {SCMP_SYS(mount),      SCMP_SYS(umount),     SCMP_SYS(umount2),
                           SCMP_SYS(pivot_root), SCMP_SYS(chroot),     SCMP_SYS(open_tree),
                           SCMP_SYS(fsopen),     SCMP_SYS(move_mount), SCMP_SYS(fspick),
                           SCMP_SYS(fsconfig),   SCMP_SYS(fsmount),    SCMP_SYS(mount_setattr)};

// Large interfaces that have had holes; no request handler needs them.
constexpr int kKernelSurface[] = {
    SCMP_SYS(bpf),     SCMP_SYS(userfaultfd), SCMP_SYS(fanotify_init),     SCMP_SYS(lookup_dcookie),
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(open_by_handle_at), SCMP_SYS(keyctl)};

// The capabilities for these are gone; the filter is a second protection.
constexpr int kAdministration[] = {
    SCMP_SYS(kexec_load),    SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(init_module),   SCMP_SYS(finit_module),    SCMP_SYS(delete_module),
    SCMP_SYS(swapon),        SCMP_SYS(swapoff),         SCMP_SYS(acct),
    SCMP_SYS(quotactl),      SCMP_SYS(quotactl_fd),     SCMP_SYS(syslog),
    SCMP_SYS(settimeofday),  SCMP_SYS(clock_settime),   SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime), SCMP_SYS(sethostname),     SCMP_SYS(setdomainname),
    SCMP_SYS(iopl),          SCMP_SYS(ioperm),          SCMP_SYS(vhangup)};

// Refuses to type into the administrator's terminal, where the broker was started from one.
void DenyTerminalInput(SeccompFilter& filter) {
  filter.Deny(EPERM, SCMP_SYS(ioctl), {Is(1, TIOCSTI)})
      .Deny(EPERM, SCMP_SYS(ioctl), {Is(1, TIOCLINUX)});
}

void DenyNamespaces(SeccompFilter& filter) {
  filter.Deny(EPERM, SCMP_SYS(unshare)).Deny(EPERM, SCMP_SYS(setns));
  for (const uint64_t flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                              CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
    filter.Deny(EPERM, SCMP_SYS(clone), {Has(0, flag)});
  }
  // Its flags are in memory, where a filter cannot see them. On ENOSYS libraries use clone.
  filter.Deny(ENOSYS, SCMP_SYS(clone3));
}

// The Internet, and netlink for what resolvers ask about addresses and routes (protocol 0).
void AllowInternet(SeccompFilter& filter) {
  for (const int call : {SCMP_SYS(socket), SCMP_SYS(socketpair)}) {
    filter.DenyUnless(EACCES, call, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK});
  }
  for (unsigned bit = 0; bit < 32; ++bit) {
    filter.Deny(EACCES, SCMP_SYS(socket), {Is(0, AF_NETLINK), Has(2, 1U << bit)});
  }
}

void DenyInternet(SeccompFilter& filter) {
  for (const int call : {SCMP_SYS(socket), SCMP_SYS(socketpair)}) {
    filter.DenyUnless(EACCES, call, 0, {AF_UNIX});
  }
}

void DenyFastOpen(SeccompFilter& filter) {
  // A connection's own TCP socket lives in the broker's network namespace: it must not become a
  // client there. Fast open is a connect (tcp(7)).
  filter.Deny(EACCES, SCMP_SYS(sendto), {Has(3, MSG_FASTOPEN)})
      .Deny(EACCES, SCMP_SYS(sendmsg), {Has(2, MSG_FASTOPEN)})
      .Deny(EACCES, SCMP_SYS(sendmmsg), {Has(3, MSG_FASTOPEN)});
}

// Landlock before version 3 (Linux 6.1) does not notice that a file is truncated without being
// opened for writing: by name, or by O_TRUNC with O_RDONLY or with the access mode 3.
void DenyTruncation(SeccompFilter& filter) {
  filter.Deny(EACCES, SCMP_SYS(truncate));
  for (const uint64_t mode : {O_RDONLY, O_ACCMODE}) {
    filter.Deny(EACCES, SCMP_SYS(open), {Masked(1, O_ACCMODE | O_TRUNC, mode | O_TRUNC)})
        .Deny(EACCES, SCMP_SYS(openat), {Masked(2, O_ACCMODE | O_TRUNC, mode | O_TRUNC)});
  }
  // Its flags are in memory, too.
  filter.Deny(ENOSYS, SCMP_SYS(openat2));
}

absl::Status LoadFilter(const Machine& machine, const WorkerPolicy& policy) {
  SeccompFilter filter = SeccompFilter::DenyList();
  DenyKeys(filter);
  DenyCopyingFromQueue(filter);
  filter.DenyAll(EPERM, kIoUring)
      .DenyAll(EPERM, kOtherProcesses)
      .DenyAll(EPERM, kMounts)
      .DenyAll(EPERM, kKernelSurface)
      .DenyAll(EPERM, kAdministration);
  DenyTerminalInput(filter);
  DenyNamespaces(filter);
  if (!policy.runs_daemon) filter.DenyAll(EPERM, kOtherProcessesContents);
  policy.network || policy.runs_daemon ? AllowInternet(filter) : DenyInternet(filter);
  if (!policy.network) DenyFastOpen(filter);
  if (machine.landlock_version < 3) DenyTruncation(filter);
  return filter.Load();
}

// /etc/resolv.conf may be a link to a file that is replaced whenever the machine has another
// network, in a directory below /run that is for this purpose. A directory of any other place has
// other files.
absl::Status AllowResolver(Landlock& files) {
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical("/etc/resolv.conf", error);
  if (error) return absl::OkStatus();
  const std::string directory = file.parent_path();
  return files.AllowIfPresent(directory.starts_with("/run/") ? directory : file.string(),
                              Access::kRead);
}

// Devices, FIFOs and sockets can be written to wherever they are.
absl::Status CheckWritable(const std::string& path) {
  struct stat file {};
  struct statvfs system {};
  if (stat(path.c_str(), &file) != 0 || statvfs(path.c_str(), &system) != 0)
    return ErrnoStatus(path);
  const bool stored = S_ISREG(file.st_mode) || S_ISDIR(file.st_mode);
  if (!stored || (system.f_flag & ST_RDONLY) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("'read_write' has ", path,
                   ", which is on a file system that is read-only here; under systemd "
                   "add ReadWritePaths=",
                   path, " to the unit, in a drop-in"));
}

absl::Status AllowFiles(const WorkerPolicy& policy, Landlock& files) {
  if (policy.profile == WorkerProfile::kStrict) {
    RETURN_IF_ERROR(AllowOnlyProgram(files, policy.program));
  } else {
    for (const char* path : {"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/etc"}) {
      RETURN_IF_ERROR(files.AllowIfPresent(path, Access::kReadExecute));
    }
    RETURN_IF_ERROR(files.Allow(policy.program, Access::kReadExecute));
    for (const std::string& program : policy.executes) {
      RETURN_IF_ERROR(files.Allow(program, Access::kReadExecute));
    }
  }
  if (policy.network) RETURN_IF_ERROR(AllowResolver(files));
  for (const char* path : {"/dev/zero", "/dev/random", "/dev/urandom"}) {
    RETURN_IF_ERROR(files.AllowIfPresent(path, Access::kRead));
  }
  RETURN_IF_ERROR(files.AllowIfPresent("/dev/null", Access::kReadWrite));
  for (const std::string& path : policy.read_only) {
    RETURN_IF_ERROR(files.Allow(path, Access::kRead));
  }
  for (const std::string& path : policy.read_write) {
    RETURN_IF_ERROR(files.Allow(path, Access::kReadWrite));
    RETURN_IF_ERROR(CheckWritable(path));
  }
  return absl::OkStatus();
}

int NamespacesOf(const WorkerPolicy& policy) {
  constexpr int kAlways = CLONE_NEWNS | CLONE_NEWIPC;
  const bool own_network = !policy.network && !policy.runs_daemon;
  return own_network ? kAlways | CLONE_NEWNET : kAlways;
}

absl::Status GivePrivateTmp(const WorkerPolicy& policy, Landlock& files) {
  PrivateTmp wanted{.uid = policy.uid,
                    .gid = policy.gid,
                    .size = policy.limits.memory,
                    .read_only = policy.read_only,
                    .read_write = policy.read_write};
  wanted.read_only.push_back(policy.program);
  wanted.read_only.insert(wanted.read_only.end(), policy.executes.begin(), policy.executes.end());
  RETURN_IF_ERROR(MountPrivateTmp(wanted));
  for (const std::string& directory : Replaced(wanted))
    RETURN_IF_ERROR(files.Allow(directory, Access::kReadWrite));
  return absl::OkStatus();
}

absl::Status EnterDirectory(const std::string& directory) {
  if (directory.empty() || chdir(directory.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus("working directory " + directory);
}

absl::Status LimitResources(const WorkerPolicy& policy) {
  const WorkerLimits& limits = policy.limits;
  RETURN_IF_ERROR(policy.core_dumps ? AllowCoreDumps() : LimitResource(RLIMIT_CORE, 0));
  if (limits.memory) RETURN_IF_ERROR(LimitResource(RLIMIT_DATA, *limits.memory));
  if (limits.processes) RETURN_IF_ERROR(LimitResource(RLIMIT_NPROC, *limits.processes));
  if (limits.files) RETURN_IF_ERROR(LimitResource(RLIMIT_NOFILE, *limits.files));
  if (limits.cpu) RETURN_IF_ERROR(LimitResource(RLIMIT_CPU, *limits.cpu));
  return absl::OkStatus();
}

}  // namespace

MissingParts MissingInWorker(const Machine& machine) {
  MissingParts missing;
  if (!machine.root) missing.Add("a user of its own (not root)");
  if (!machine.namespaces) {
    missing.Add("namespaces and a /tmp of its own (no CAP_SYS_ADMIN, or unshare(2) is refused)");
  } else if (!machine.mounts) {
    missing.Add("mounts and a /tmp of its own (the root directory is no mount point)");
  }
  if (machine.landlock_version == 0) missing.Add("file access limits (kernel without Landlock)");
  if (!machine.root && machine.landlock_version < 6) {
    missing.Add("a wall against signals to processes of its user (kernel before 6.12)");
  }
  return missing;
}

absl::Status ConfineWorker(const WorkerPolicy& policy) {
  const Machine machine = Machine::Inspect();
  if (machine.root && !policy.change_user) {
    return absl::FailedPreconditionError("refusing to start a worker as root: name a user");
  }
  MissingInWorker(machine).Log(absl::StrCat("worker ", policy.program));

  RETURN_IF_ERROR(RequireSingleThread());
  const bool own_loopback = policy.runs_daemon && !policy.network;
  if (own_loopback && !machine.namespaces) {
    return absl::FailedPreconditionError(
        "a daemon without the network needs a network namespace of its own, and this process "
        "cannot "
        "make one (no CAP_SYS_ADMIN, or unshare(2) is refused): set network = true");
  }
  const bool any_network = policy.network || own_loopback;
  ASSIGN_OR_RETURN(Landlock files, Landlock::Create(any_network ? Landlock::Network::kAny
                                                                : Landlock::Network::kNone));
  RETURN_IF_ERROR(AllowFiles(policy, files));
  if (machine.namespaces) {
    const int namespaces = NamespacesOf(policy);
    RETURN_IF_ERROR(EnterNamespaces(machine.mounts ? namespaces : namespaces & ~CLONE_NEWNS));
  }
  if (own_loopback) RETURN_IF_ERROR(EnterLoopbackNetwork());
  if (machine.mounts && policy.private_tmp) RETURN_IF_ERROR(GivePrivateTmp(policy, files));
  if (machine.root) {
    RETURN_IF_ERROR(ForbidGainingCapabilities(KeepCaps::kNotLocked));
    RETURN_IF_ERROR(BecomeUser(policy.uid, policy.gid));
  }
  RETURN_IF_ERROR(DropCapabilities());
  RETURN_IF_ERROR(EnterDirectory(policy.directory));  // with the rights of the worker
  RETURN_IF_ERROR(SetNoNewPrivileges());
  RETURN_IF_ERROR(files.Enforce());
  // If two filters refuse a call, the one that was loaded last decides how (seccomp(2)).
  if (policy.profile == WorkerProfile::kStrict) RETURN_IF_ERROR(LoadStrictFilter());
  RETURN_IF_ERROR(LoadFilter(machine, policy));
  // Last, so that the limits hold for the worker, not for this copy of the supervisor.
  return LimitResources(policy);
}

}  // namespace tlsbroker::sandbox
