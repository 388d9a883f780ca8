#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that the broker does not start: it attaches itself to a service of the running broker, with libtlsbroker by ctypes.

    attached_worker.py /run/tlsbroker/echo.sock

It tells every client what its connection is, then answers each piece of data with the same. When the broker is
restarted the library attaches again by itself; tlsbroker_accept() just takes longer.
"""

import ctypes
import os
import sys

library = ctypes.CDLL("libtlsbroker.so.0")
Handle, Text = ctypes.c_void_p, ctypes.c_char_p
TRUNCATED = -5001


def function(name, result, *arguments):
    found = getattr(library, "tlsbroker_" + name)
    found.restype, found.argtypes = result, arguments
    return found


strerror = function("strerror", Text, ctypes.c_int)
attach = function("attach", ctypes.c_int, Text, ctypes.POINTER(Handle))
accept = function("accept", ctypes.c_int, Handle, ctypes.c_uint, ctypes.POINTER(Handle))
mode_name = function("conn_mode_name", Text, Handle)
service = function("conn_service", Text, Handle)
read = function("read", ctypes.c_ssize_t, Handle, Text, ctypes.c_size_t)
write = function("write", ctypes.c_ssize_t, Handle, Text, ctypes.c_size_t, ctypes.c_uint)
close = function("close", ctypes.c_int, Handle, ctypes.c_int)
abort = function("abort", None, Handle)


def checked(result):
    if result < 0:
        raise OSError(-result, strerror(result).decode())
    return result


def serve(connection):
    """Ends the connection in any case: cleanly when the client did, else with a cut, so that nobody takes a part for the
    whole."""
    buffer = ctypes.create_string_buffer(65536)
    try:
        hello = service(connection) + b" " + mode_name(connection) + b"\n"
        checked(write(connection, hello, len(hello), 0))
        while size := checked(read(connection, buffer, len(buffer))):
            checked(write(connection, buffer.raw[:size], size, 0))
    except OSError as error:
        print(f"a connection: {error.strerror}", file=sys.stderr)
        abort(connection)
    else:
        close(connection, 1000)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: attached_worker.py /run/tlsbroker/SERVICE.sock")
    queue, connection = Handle(), Handle()
    try:
        checked(attach(os.fsencode(sys.argv[1]), ctypes.byref(queue)))
        while True:
            checked(accept(queue, 0, ctypes.byref(connection)))
            serve(connection)
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")


if __name__ == "__main__":
    main()
