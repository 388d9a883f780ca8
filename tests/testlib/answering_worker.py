#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that answers one line on each connection with "hello", and ends the connection properly."""

import array
import os
import socket


def receive(queue):
    message, control, _, _ = queue.recvmsg(16384, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data)
    return message, list(fds)


def mode(message):
    """The mode: 1 direct, 2 bridge, 3 relay; it is the second byte of the TLV 0xE0."""
    position = 16 + (12 if message[13] == 0x11 else 36)
    while position < len(message):
        size = int.from_bytes(message[position + 1:position + 3], "big")
        if message[position] == 0xE0:
            return message[position + 4]
        position += 3 + size
    raise ValueError("no hand-off")


def end(connection, direct):
    if direct:
        connection.sendmsg([b"\1\0"], [(282, 1, b"\x15")])  # close_notify
        connection.shutdown(socket.SHUT_WR)
    else:
        fd = array.array("i", [connection.fileno()])
        connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])  # END


def serve(queue):
    while True:
        message, fds = receive(queue)
        if not message:
            return
        with socket.socket(fileno=fds[0]) as connection:
            try:
                if connection.recv(100):
                    connection.sendall(b"hello\n")
                    end(connection, mode(message) == 1)
            except OSError:
                pass  # the client is gone, or sent no data


names = os.environ["LISTEN_FDNAMES"].split(":")
index = next(i for i, name in enumerate(names) if name.startswith("tlsbroker."))
serve(socket.socket(fileno=3 + index))
