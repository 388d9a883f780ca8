#!/usr/bin/python3
"""A worker that attaches itself with libtlsbroker, loaded from Python: PATH, then the uid and gid to become and
the supplementary groups. Says on standard output what happens, a line each; answers every connection with the
service's name. "keys" says whether the kernel's TLS options can still be reached."""

import ctypes
import os
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

SOL_TLS = 282


def say(*words):
    print(*words, flush=True)


def keys_error(level):
    """The error that getsockopt gives: EPERM from the filter, anything else from the kernel."""
    with socket.socket() as plain:
        try:
            plain.getsockopt(level, 1, 40)
        except OSError as error:
            return error.errno
    return 0


def serve(queue):
    connection = ctypes.c_void_p()
    while True:
        result = library.tlsbroker_accept(queue, 0, ctypes.byref(connection))
        if result < 0:
            say("accept", library.tlsbroker_strerror(result).decode())
            continue
        text = library.tlsbroker_conn_service(connection) + b"\n"
        library.tlsbroker_write(connection, text, len(text), 0)
        library.tlsbroker_close(connection, -1)


def main():
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
            serve(queue)
        if result in (-13, -87):
            return
        time.sleep(0.1)


main()
