# SPDX-License-Identifier: Apache-2.0
"""Finds the process at the other end of a Unix socket: NETLINK_SOCK_DIAG of sock_diag(7), which ss(8) uses. Uses only Python's
standard library."""

import contextlib
import os
import re
import socket
import struct

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3
UDIAG_SHOW_PEER, UNIX_DIAG_PEER = 4, 2


def peers():
    """{inode of a socket: inode of its peer}; None where the kernel does not tell."""
    found = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as asking:
            request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, UDIAG_SHOW_PEER, 0, 0)
            asking.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + request)
            asking.settimeout(10)
            while True:
                data = asking.recv(1 << 18)
                while data:
                    size, kind = struct.unpack_from("=IH", data)
                    message, data = data[16:size], data[(size + 3) & ~3:]
                    if kind == NLMSG_DONE:
                        return found
                    if kind == NLMSG_ERROR:
                        return None
                    (inode,) = struct.unpack_from("=4xI", message)
                    found.update({inode: peer for peer in attributes(message[16:])})
    except OSError:
        return None


def attributes(data):
    while data:
        size, kind = struct.unpack_from("=HH", data)
        if kind == UNIX_DIAG_PEER:
            yield struct.unpack_from("=I", data, 4)[0]
        data = data[(size + 3) & ~3:]


def sockets(pid):
    """{descriptor: inode} of the sockets of a process."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}")):
                found[int(name)] = int(match[1])
    return found


def owners(inode):
    """The processes that have the socket with this inode."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if inode in sockets(pid).values():
                found.add(int(pid))
        except OSError:  # it has ended
            continue
    return found
