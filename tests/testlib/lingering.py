#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A user of this machine who sends to a socket, where anybody may connect, a TCP socket with SO_LINGER and unsent data, and keeps
no copy of it: a process that closes the connection with that packet in it waits, up to an hour, until the data is sent. The user
does so again and again, since a process that hangs may be replaced, and since by chance it may be the sender itself that closes
the last copy and waits; a signal ends that. Usage: lingering.py SOCKET UID. Prints what happens, a line each."""

import array
import os
import signal
import socket
import struct
import sys
import time


def say(*words):
    print(*words, flush=True)


def lingering():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    client.setblocking(False)
    try:
        while True:
            client.send(b"x" * 65536)
    except BlockingIOError:
        pass
    return client, server


def send(path):
    """Sends one such packet to the process that listens now. The packet is prepared before the connection is made, so that it
    often comes before the refusal."""
    client, server = lingering()
    kept.append(server)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        what = "connect"
        try:
            connection.connect(path)
            what = "send"
            connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
            os.close(client.detach())  # the only copy is in the packet now, if that is still there
            say("sent")
        except OSError as error:
            os.close(client.detach())
            say(what, os.strerror(error.errno))


kept = []
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
signal.signal(signal.SIGALRM, lambda *unused: None)
while True:
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.1)
    send(sys.argv[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(0.1)
