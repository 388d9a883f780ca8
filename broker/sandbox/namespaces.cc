// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/namespaces.h"

#include <net/if.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "broker/sandbox/capabilities.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::sandbox {
namespace {

// Any directory that always exists; what is in it cannot be seen here anyway.
constexpr char kMountPoint[] = "/usr";

constexpr char kLoopbackSocket[] = "/run/tlsbroker-loopback.sock";

// pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, and is
// unmounted.
absl::Status PivotHere() {
  if (syscall(SYS_pivot_root, ".", ".") != 0) return ErrnoStatus("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return ErrnoStatus("unmount the old root");
  return absl::OkStatus();
}

absl::Status BringLoopbackUp() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (!socket || ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
    return ErrnoStatus("bring the loopback interface up");
  return absl::OkStatus();
}

// A network namespace that tlsbroker-loopback sends; only root makes sockets in this place.
absl::StatusOr<UniqueFd> ReceiveNetwork() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, kLoopbackSocket, sizeof(kLoopbackSocket));
  if (!socket ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(
        "a loopback interface of its own needs CAP_NET_ADMIN, or tlsbroker-loopback.socket of "
        "systemd: " +
        std::string(kLoopbackSocket));
  }
  channel::Message message;
  const channel::Result result = channel::Receive(socket.get(), 1, 1, message);
  if (result == channel::Result::kOk && message.fds.size() == 1) return std::move(message.fds[0]);
  return absl::UnavailableError("tlsbroker-loopback@.service has sent no network; see its log");
}

// Where the service manager could not make a new namespace, it is the machine's own that was sent.
absl::Status CheckIsAnother(int network) {
  struct stat own {};
  struct stat other {};
  if (stat("/proc/self/ns/net", &own) != 0) return ErrnoStatus("/proc/self/ns/net");
  if (fstat(network, &other) != 0) return ErrnoStatus("fstat of a network namespace");
  if (own.st_dev != other.st_dev || own.st_ino != other.st_ino) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "systemd cannot make a network for tlsbroker-loopback@.service here");
}

absl::Status AskForNetwork() {
  ASSIGN_OR_RETURN(const UniqueFd network, ReceiveNetwork());
  RETURN_IF_ERROR(CheckIsAnother(network.get()));
  if (setns(network.get(), CLONE_NEWNET) != 0) return ErrnoStatus("enter a network of its own");
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

absl::Status EnterLoopbackNetwork() {
  if (!HasCapability(CAP_NET_ADMIN)) return AskForNetwork();
  if (unshare(CLONE_NEWNET) != 0) return ErrnoStatus("unshare the network");
  return BringLoopbackUp();
}

}  // namespace tlsbroker::sandbox
