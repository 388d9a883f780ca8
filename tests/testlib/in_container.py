#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command as engines for containers do by default: with their capabilities, and a filter that refuses unshare(2), mount(2) and
the like. Usage: in_container.py OPTION... -- COMMAND...

    capable             with all capabilities of root, and the filter
    user=UID            as this user, without capabilities
    read-only=DIRECTORY the root file system cannot be written, except this directory; without /proc
    chroot=DIRECTORY    in a plain chroot(2), whose root directory is no mount point, without /proc; the filter is left out
"""

import os
import sys

import under_unit
from under_unit import ALLOW, ERRNO, MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, check, libc, mount, seccomp

# Docker's and Podman's default.
KEPT = {"chown": 0, "dac_override": 1, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8,
        "net_bind_service": 10, "net_raw": 13, "sys_chroot": 18, "mknod": 27, "audit_write": 29, "setfcap": 31}
REFUSED = ("unshare", "setns", "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick",
           "mount_setattr", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "quotactl",
           "open_by_handle_at", "name_to_handle_at", "kexec_load", "init_module", "swapon", "reboot", "sethostname")
SET_CTL_NNP = 3


def refuse():
    filter_ = seccomp.seccomp_init(under_unit.ctypes.c_uint32(ALLOW))
    check(seccomp.seccomp_attr_set(under_unit.ctypes.c_void_p(filter_), SET_CTL_NNP, 0), "seccomp_attr_set")
    for name in REFUSED:
        under_unit.add_rule(filter_, ERRNO | 1, seccomp.seccomp_syscall_resolve_name(name.encode()))
    check(seccomp.seccomp_load(under_unit.ctypes.c_void_p(filter_)), "seccomp_load")


def own_mounts():
    check(libc.unshare(under_unit.CLONE_NEWNS), "unshare")
    mount(None, "/", MS_REC | MS_PRIVATE)


def make_read_only(writable):
    own_mounts()
    mount(writable, writable, MS_BIND)
    mount(None, "/", MS_REMOUNT | MS_BIND | MS_RDONLY)
    check(libc.umount2(b"/proc", 2), "umount /proc")


def enter_chroot(directory):
    """`directory` is an ordinary one, in which the machine's directories are mounted, but for /proc."""
    own_mounts()
    for name in sorted(os.listdir("/")):
        path, there = f"/{name}", f"{directory}/{name}"
        if name in ("proc", "sys") or not os.path.isdir(path) or not os.listdir(path):
            continue
        if os.path.islink(path):
            os.symlink(os.readlink(path), there)
            continue
        os.mkdir(there)
        mount(path, there, MS_BIND | MS_REC)
    os.chroot(directory)
    os.chdir("/")


def main():
    at = sys.argv.index("--")
    options = dict(word.partition("=")[::2] for word in sys.argv[1:at])
    command = sys.argv[at + 1:]
    last = under_unit.last_capability()
    if "read-only" in options:
        make_read_only(options["read-only"])
    if "chroot" in options:
        enter_chroot(options["chroot"])
    else:
        refuse()
    if "chroot" not in options and "capable" not in options:
        for capability in set(range(last + 1)) - set(KEPT.values()):
            check(libc.prctl(under_unit.PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
    if "user" in options:
        os.setgroups([])
        os.setresgid(*[int(options["user"])] * 3)
        os.setresuid(*[int(options["user"])] * 3)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
