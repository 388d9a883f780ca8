#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that attaches itself with libtlsbroker, loaded from Python. Its arguments are PATH, the uid and gid to become, and the
supplementary groups. With a further argument "epoll" it waits by epoll(7). It prints what happens, a line each, and answers every
connection with the service's name. "keys" says whether the kernel's TLS options can still be reached."""

import ctypes
import errno
import os
import select
import socket
import sys
import time

import broker as testlib

library = ctypes.CDLL(testlib.program("client-lib/libtlsbroker.so.0"))
library.tlsbroker_strerror.restype = ctypes.c_char_p
library.tlsbroker_conn_service.restype = ctypes.c_char_p
library.tlsbroker_conn_service.argtypes = [ctypes.c_void_p]
library.tlsbroker_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint]
library.tlsbroker_write.restype = ctypes.c_ssize_t
library.tlsbroker_close.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.tlsbroker_accept.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p]

library.tlsbroker_queue_fd.argtypes = [ctypes.c_void_p]

SOL_TLS = 282
DONTWAIT = 1


def say(*words):
    print(*words, flush=True)


def keys_error(level):
    """The error of getsockopt: EPERM comes from the filter, any other one from the kernel."""
    with socket.socket() as plain:
        try:
            plain.getsockopt(level, 1, 40)
        except OSError as error:
            return error.errno
    return 0


def watch(queue):
    """An epoll instance that has the queue, without EPOLLEXCLUSIVE if that is refused."""
    epoll, fd = select.epoll(), library.tlsbroker_queue_fd(queue)
    try:
        epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        say("exclusive 0")
    except OSError as error:
        say("exclusive", error.errno)
        epoll.register(fd, select.EPOLLIN)
    return epoll


def serve(queue, by_epoll):
    connection = ctypes.c_void_p()
    epoll = watch(queue) if by_epoll else None
    while True:
        if epoll:
            epoll.poll()
        result = library.tlsbroker_accept(queue, DONTWAIT if epoll else 0, ctypes.byref(connection))
        if epoll and result == -errno.EAGAIN:
            say("another was faster")
            continue
        if result < 0:
            say("accept", library.tlsbroker_strerror(result).decode())
            continue
        text = library.tlsbroker_conn_service(connection) + b"\n"
        library.tlsbroker_write(connection, text, len(text), 0)
        library.tlsbroker_close(connection, -1)
        say("served")


def main():
    by_epoll = sys.argv[-1] == "epoll"
    if by_epoll:
        sys.argv.pop()
    path, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if os.geteuid() == 0 and uid:
        os.setgroups([int(group) for group in sys.argv[4:]])
        os.setgid(gid)
        os.setuid(uid)
    say("keys before", keys_error(SOL_TLS))
    while True:
        queue = ctypes.c_void_p()
        result = library.tlsbroker_attach(path.encode(), ctypes.byref(queue))
        say("attach", result, library.tlsbroker_strerror(result).decode() if result < 0 else "ok")
        if result == 0:
            say("keys after", keys_error(SOL_TLS))
            serve(queue, by_epoll)
        if result in (-13, -87):
            return
        time.sleep(0.1)


main()
