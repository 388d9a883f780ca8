#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that copies a connection out of the queue and leaves it there for the others. Arguments: PATH of SERVICE.sock, the uid
and gid to become, and "library" if libtlsbroker attaches first, whose filter is then in force, or "bare". It prints what it got,
writes "spy " into the copy, and stays. x86-64."""

import ctypes
import errno
import os
import select
import signal
import socket
import sys

import broker as testlib

RECVMSG, RECVMMSG = 47, 299
WIDE = 1 << 32
libc = ctypes.CDLL(None, use_errno=True)
library = ctypes.CDLL(testlib.program("client-lib/libtlsbroker.so.0"))  # loaded now: the other user may not reach its files


def say(*words):
    print(*words, flush=True)


def attach_by_library(path):
    queue = ctypes.c_void_p()
    say("library", library.tlsbroker_attach(path.encode(), ctypes.byref(queue)))


def attach(path):
    attachment = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    attachment.connect(path)
    _, descriptors, _, _ = socket.recv_fds(attachment, 64, 4)
    return attachment, socket.socket(fileno=descriptors[0])


def error_of(call, *registers):
    """The error of a call with a null pointer for a message, or with no messages: it is the kernel's, or the filter's, which
    refuses the call before."""
    result = libc.syscall(ctypes.c_long(call), *map(ctypes.c_uint64, registers))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "none"


def main():
    path, uid, gid, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if how == "library":
        attach_by_library(path)
    attachment, queue = attach(path)
    for flags in (socket.MSG_PEEK, socket.MSG_PEEK | WIDE):
        say("recvmsg", error_of(RECVMSG, queue.fileno(), 0, flags))
        say("recvmmsg", error_of(RECVMMSG, queue.fileno(), 0, 0, flags, 0))
    say("attached")
    select.select([queue], [], [])
    say("recvfrom", len(queue.recv(16384, socket.MSG_PEEK)) > 0)
    try:
        _, control, _, _ = queue.recvmsg(16384, 64, socket.MSG_PEEK)
    except OSError as error:
        say("copy", errno.errorcode[error.errno])
    else:
        copy = socket.socket(fileno=int.from_bytes(control[0][2][:4], sys.byteorder))
        say("copy", copy.send(b"spy "))
    signal.pause()
    attachment.close()


main()
