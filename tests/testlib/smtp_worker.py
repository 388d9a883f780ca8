#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that speaks as much SMTP as STARTTLS needs (RFC 3207), in plaintext on a port of its own, PORT, until the client asks
for TLS: then it has the broker wrap the socket, as the server. It uses libtlsbroker."""

import ctypes
import os
import socket
import sys
import threading

SERVER = 1
LIBRARY = sys.argv[2]
library = ctypes.CDLL(LIBRARY)
library.tlsbroker_strerror.restype = ctypes.c_char_p
library.tlsbroker_conn_mode_name.restype = ctypes.c_char_p
library.tlsbroker_conn_mode_name.argtypes = [ctypes.c_void_p]
library.tlsbroker_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint]
library.tlsbroker_write.restype = ctypes.c_ssize_t
library.tlsbroker_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
library.tlsbroker_read.restype = ctypes.c_ssize_t
library.tlsbroker_close.argtypes = [ctypes.c_void_p, ctypes.c_int]
library.tlsbroker_wrap.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class Plain:
    def __init__(self, sock):
        self.socket = sock

    def read(self):
        return self.socket.recv(4096)

    def write(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()


class Wrapped:
    def __init__(self, conn):
        self.conn = conn
        self.buffer = ctypes.create_string_buffer(4096)

    def read(self):
        size = library.tlsbroker_read(self.conn, self.buffer, len(self.buffer))
        return self.buffer.raw[:size] if size > 0 else b""

    def write(self, data):
        library.tlsbroker_write(self.conn, data, len(data), 0)

    def close(self):
        library.tlsbroker_close(self.conn, -1)


def lines(channel):
    """Yields each line, and whether more data has already come behind it."""
    rest = b""
    while data := channel.read():
        rest += data
        while b"\r\n" in rest:
            line, _, rest = rest.partition(b"\r\n")
            yield line.decode().upper(), bool(rest)


def wrap(queue, sock):
    conn = ctypes.c_void_p()
    result = library.tlsbroker_wrap(queue, sock.fileno(), SERVER, None, ctypes.byref(conn))
    if result < 0:
        print("wrap:", result, library.tlsbroker_strerror(result).decode(), flush=True)
        sock.close()
        return None
    sock.detach()  # the library has the descriptor now
    print("wrapped:", library.tlsbroker_conn_mode_name(conn).decode(), flush=True)
    return Wrapped(conn)


def talk(queue, channel, secure):
    """Talks in plaintext; returns the socket on which TLS is to begin, or None at the end."""
    for line, more in lines(channel):
        if line.startswith("EHLO"):
            channel.write(b"250-mail.example\r\n" + (b"250 HELP\r\n" if secure else b"250 STARTTLS\r\n"))
        elif line == "STARTTLS" and not secure and more:
            print("something in plaintext behind STARTTLS", flush=True)
            break  # an attacker on the way could have put that there (CVE-2011-0411)
        elif line == "STARTTLS" and not secure:
            channel.write(b"220 go ahead\r\n")
            return channel.socket
        elif line == "NOOP":
            channel.write(b"250 over TLS\r\n" if secure else b"250 in plaintext\r\n")
        elif line == "QUIT":
            channel.write(b"221 bye\r\n")
            break
        else:
            channel.write(b"502 what?\r\n")
    channel.close()
    return None


def serve(queue, sock):
    channel = Plain(sock)
    channel.write(b"220 mail.example ESMTP\r\n")
    if talk(queue, channel, secure=False):
        secured = wrap(queue, sock)
        if secured:
            talk(queue, secured, secure=True)


def main():
    queue = ctypes.c_void_p()
    if library.tlsbroker_queue_from_environment(None, ctypes.byref(queue)) != 0:
        sys.exit("no queue")
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        print("listening as", os.getpid(), flush=True)
        while True:
            threading.Thread(target=serve, args=(queue, listener.accept()[0]), daemon=True).start()


if __name__ == "__main__":
    main()
