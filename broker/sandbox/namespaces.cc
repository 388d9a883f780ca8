// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/namespaces.h"

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "broker/support/status.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::sandbox {
namespace {

// Any directory that always exists; what is in it cannot be seen here anyway.
constexpr char kMountPoint[] = "/usr";

// pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, and is
// unmounted.
absl::Status PivotHere() {
  if (syscall(SYS_pivot_root, ".", ".") != 0) return ErrnoStatus("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return ErrnoStatus("unmount the old root");
  return absl::OkStatus();
}

}  // namespace

absl::Status EnterNamespaces(int flags) {
  if (unshare(flags) != 0) return ErrnoStatus("unshare");
  if ((flags & CLONE_NEWNS) == 0) return absl::OkStatus();
  // A mount made here stays here; mounts and unmounts of the machine still arrive.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return ErrnoStatus("keep mounts here");
  }
  return absl::OkStatus();
}

absl::Status EnterEmptyRoot() {
  if (mount("tmpfs", kMountPoint, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
            "mode=0555,nr_inodes=1") != 0) {
    return ErrnoStatus("mount an empty root");
  }
  if (chdir(kMountPoint) != 0) return ErrnoStatus("enter the empty root");
  RETURN_IF_ERROR(PivotHere());
  if (chdir("/") != 0) return ErrnoStatus("enter the empty root");
  return absl::OkStatus();
}

absl::Status BringLoopbackUp() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (!socket || ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
    return ErrnoStatus("bring the loopback interface up (needs CAP_NET_ADMIN)");
  }
  return absl::OkStatus();
}

}  // namespace tlsbroker::sandbox
