#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command under the restrictions of a systemd unit, as far as that is possible without a running systemd: system call
filter, address families, namespaces, capabilities, no_new_privs, user, a read-only file system, and what /proc shows.

Usage: under_unit.py UNIT WRITABLE-DIRECTORY COMMAND...
"""

import ctypes
import functools
import os
import pwd
import re
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
MASKED_EQ, NE = 7, 1
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
MS_RDONLY, MS_NOSUID, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18
CLONE_NEWNS = 0x20000
NAMESPACES = {"mnt": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
              "pid": 0x20000000, "net": 0x40000000}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
CAPABILITIES = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8,
                "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_ADMIN": 21}


class Condition(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def check(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno() or -result)}")


def read_unit(path):
    values = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, found, value = line.strip().partition("=")
            if found and not line.startswith("#"):
                values.setdefault(name, []).append(value)
    return values


@functools.cache
def calls_of(name):
    """The name of a system call, or all the names that systemd means by @NAME."""
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    names = re.findall(r"^ +([@\w-]+)", shown.stdout, re.M)
    return set().union(*(calls_of(each) for each in names))


def allowed_calls(lines):
    """systemd.exec(5): a list that begins with ~ is removed from what the lists before allow."""
    allowed = set(calls_of("@default"))
    for line in lines:
        names = set().union(*(calls_of(each) for each in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def add_rule(filter_, action, number, *conditions):
    array = (Condition * len(conditions))(*conditions)
    check(seccomp.seccomp_rule_add_array(ctypes.c_void_p(filter_), ctypes.c_uint32(action), number, len(conditions), array),
          "seccomp_rule_add_array")


def load_call_filter(calls):
    filter_ = seccomp.seccomp_init(ctypes.c_uint32(ERRNO | 1))
    for name in sorted(calls):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            add_rule(filter_, ALLOW, number)
    check(seccomp.seccomp_load(ctypes.c_void_p(filter_)), "seccomp_load")


def load_argument_filter(unit):
    filter_ = seccomp.seccomp_init(ctypes.c_uint32(ALLOW))
    families = [FAMILIES[name] for name in unit["RestrictAddressFamilies"][0].split()]
    socket = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in set(range(46)) - set(families):
        add_rule(filter_, ERRNO | 97, socket, Condition(0, MASKED_EQ, 0xFFFFFFFF, family))
    permitted = unit["RestrictNamespaces"][0].split()
    for name, flag in NAMESPACES.items():
        if name in permitted:
            continue
        for call, argument in ((b"unshare", 0), (b"clone", 0), (b"setns", 1)):
            add_rule(filter_, ERRNO | 1, seccomp.seccomp_syscall_resolve_name(call), Condition(argument, MASKED_EQ, flag, flag))
    check(seccomp.seccomp_load(ctypes.c_void_p(filter_)), "seccomp_load")


def mount(source, target, flags):
    result = libc.mount(source and source.encode(), target.encode(), None, ctypes.c_ulong(flags), None)
    check(result, f"mount {target}")


def protect_system(writable):
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", MS_REC | MS_PRIVATE)
    mount(writable, writable, MS_BIND)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        targets = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for target in targets:
        if target == writable or target.startswith(("/dev", "/proc", "/sys")):
            continue
        try:
            mount(None, target, MS_REMOUNT | MS_BIND | MS_RDONLY)
        except OSError as error:
            if target == "/":
                raise
            print(f"under_unit: {error}", file=sys.stderr)


def protect_proc(unit):
    options = f"hidepid={unit['ProtectProc'][0]},subset={unit['ProcSubset'][0]}"
    check(libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), options.encode()), "mount /proc")


def last_capability():
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def drop_capabilities(unit, last):
    kept = {CAPABILITIES[name] for name in unit["CapabilityBoundingSet"][0].split()}
    for capability in set(range(last + 1)) - kept:
        check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")


def main():
    unit, writable, command = read_unit(sys.argv[1]), sys.argv[2], sys.argv[3:]
    calls = allowed_calls(unit["SystemCallFilter"])
    last = last_capability()
    protect_system(writable)
    protect_proc(unit)
    drop_capabilities(unit, last)
    if user := unit.get("User"):
        account = pwd.getpwnam(os.environ.get("UNDER_UNIT_USER", user[0]))
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    load_argument_filter(unit)
    load_call_filter(calls)
    # This exec drops the capabilities that are no longer in the bounding set.
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
