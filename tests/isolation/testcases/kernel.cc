// SPDX-License-Identifier: Apache-2.0
// Attacks on the larger interfaces of the kernel, and on the means of the sandbox.

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

int Bpf(const Arguments&) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = attributes.value_size = 4;
  attributes.max_entries = 1;
  return ErrorOf(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)));
}

int PerfEvent(const Arguments&) {
  perf_event_attr attributes{};
  attributes.size = sizeof(attributes);
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_CPU_CLOCK;
  return ErrorOf(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}

int Userfaultfd(const Arguments&) { return ErrorOf(syscall(SYS_userfaultfd, O_CLOEXEC)); }

int Keyctl(const Arguments&) {
  return ErrorOf(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

int AddKey(const Arguments&) {
  return ErrorOf(syscall(SYS_add_key, "user", "attack", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

// Mounts in a mount namespace of its own if it can have one, so that an unconfined run leaves
// nothing behind.
int Mount(const Arguments&) {
  (void)!unshare(CLONE_NEWNS);
  (void)!mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  return ErrorOf(mount("tmpfs", "/usr", "tmpfs", 0, nullptr));
}

int OpenTree(const Arguments&) { return ErrorOf(syscall(SYS_open_tree, AT_FDCWD, "/usr", 0)); }

int Chroot(const Arguments&) { return ErrorOf(chroot("/usr")); }

int Unshare(const Arguments& arguments) {
  return ErrorOf(syscall(SYS_unshare, Register(arguments.at(0))));
}

int Setns(const Arguments&) {
  const long self = syscall(SYS_pidfd_open, getpid(), 0);
  return ErrorOf(syscall(SYS_setns, self, CLONE_NEWUTS));
}

// The argument is the whole register; the exit signal is added.
int Clone(const Arguments& arguments) {
  const long child =
      syscall(SYS_clone, Register(arguments.at(0)) | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) _exit(0);
  if (child < 0) return errno;
  waitpid(static_cast<pid_t>(child), nullptr, 0);
  return 0;
}

int Clone3(const Arguments&) {
  uint64_t arguments[8] = {CLONE_NEWUTS, 0, 0, 0, SIGCHLD, 0, 0, 0};  // struct clone_args
  const long child = syscall(SYS_clone3, arguments, sizeof(arguments));
  if (child == 0) _exit(0);
  if (child < 0) return errno;
  waitpid(static_cast<pid_t>(child), nullptr, 0);
  return 0;
}

int OpenByHandle(const Arguments&) {
  alignas(file_handle) char room[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  auto* handle = reinterpret_cast<file_handle*>(room);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id;
  if (name_to_handle_at(AT_FDCWD, "/dev", handle, &mount_id, 0) != 0) return errno;
  const int root = open("/dev", O_RDONLY | O_DIRECTORY);
  return ErrorOf(open_by_handle_at(root, handle, O_RDONLY));
}

// The argument is the whole register. Without a terminal the kernel returns ENOTTY.
int TypeIntoTerminal(const Arguments& arguments) {
  const char letter = 'x';
  return ErrorOf(syscall(SYS_ioctl, STDIN_FILENO, Register(arguments.at(0)), &letter));
}

constexpr Attack kAttacks[] = {
    {"bpf", Bpf},
    {"perf-event", PerfEvent},
    {"userfaultfd", Userfaultfd},
    {"keyctl", Keyctl},
    {"add-key", AddKey},
    {"mount", Mount},
    {"open-tree", OpenTree},
    {"chroot", Chroot},
    {"unshare", Unshare},
    {"setns", Setns},
    {"clone", Clone},
    {"clone3", Clone3},
    {"open-by-handle", OpenByHandle},
    {"type-into-terminal", TypeIntoTerminal},
};

}  // namespace

std::span<const Attack> KernelAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
