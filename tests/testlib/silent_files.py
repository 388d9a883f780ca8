#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A user's FUSE file system with one file "f" that anybody may open. It leaves some requests for this file without an answer: a
process that made one waits in the kernel, where not even SIGKILL ends it. Usage: MOUNTPOINT UID WHAT. WHAT says which requests:
"flush" (each close(2) of the file) or "read" (each page of it). Runs until it is killed: then the kernel answers in its place.
Needs root to mount, and then becomes the user. Uses only Python's standard library."""

import ctypes
import os
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
NOSUID_NODEV, DETACH = 2 | 4, 2
# linux/fuse.h
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, INTERRUPT, BATCH_FORGET = (
    1, 2, 3, 14, 15, 18, 25, 26, 27, 36, 42)
ENOENT, ENOSYS = 2, 38
SILENT = {"flush": FLUSH, "read": READ}


def mount(path, uid):
    """Mounts the file system; returns the descriptor over which the kernel sends its requests."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={uid},allow_other"
    if libc.mount(b"silent", path.encode(), b"fuse", NOSUID_NODEV, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {path}")
    return device


def unmount(path):
    libc.umount2(path.encode(), DETACH)


def attributes(node, uid):
    directory = node == 1
    return struct.pack("<QQQQQQIIIIIIIIII", node, 0 if directory else 4096, 8, 0, 0, 0, 0, 0, 0,
                       0o40755 if directory else 0o100666, 1, uid, uid, 0, 4096, 0)


def answer(operation, node, body, uid):
    """The data and the error of the answer; None for requests that the kernel does not wait for."""
    if operation == INIT:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0, *[0] * 7), 0
    if operation == LOOKUP:
        if body.split(b"\0")[0] != b"f":
            return b"", ENOENT
        return struct.pack("<QQQQII", 2, 1, 1, 1, 0, 0) + attributes(2, uid), 0
    if operation == GETATTR:
        return struct.pack("<QII", 1, 0, 0) + attributes(node, uid), 0
    if operation in (OPEN, OPENDIR):
        return struct.pack("<QII", 1, 0, 0), 0
    if operation in (FORGET, INTERRUPT, BATCH_FORGET):
        return None
    if operation in (FLUSH, RELEASE, READ):
        return bytes(4096) if operation == READ else b"", 0
    return b"", ENOSYS


def main():
    path, uid, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    device = mount(path, uid)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    print("mounted", flush=True)
    while True:
        message = os.read(device, 1 << 18)
        _, operation, unique, node, *_ = struct.unpack_from("<IIQQIIII", message)
        reply = answer(operation, node, message[40:], uid) if operation != SILENT[what] else None
        if reply is not None:
            data, error = reply
            os.write(device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)


if __name__ == "__main__":
    main()
