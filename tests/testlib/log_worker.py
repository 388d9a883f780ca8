#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that closes all connections, and does to its log what the first argument says. For tests only."""

import os
import socket
import sys
import termios
import threading
import time


def take_connections():
    queue = socket.socket(fileno=3)
    while True:
        message, fds, _, _ = socket.recv_fds(queue, 16384, 4)
        for fd in fds:
            os.close(fd)
        if not message and sys.argv[1] == "outlive":
            return
        if not message:
            os._exit(0)


def say(text):
    os.write(2, text.encode() + b"\n")


def attempt(name, call):
    try:
        result = call()
    except Exception as error:  # pylint: disable=broad-except
        result = f"{type(error).__name__}: {error}"
    say(f"tried {name}: {result!r}")


def quiet():
    say("here")


def count(pause="0.005", size="0"):
    """Writes numbered lines, about 200 a second."""
    padding = int(size) * "."
    number = 0
    while True:
        say(f"{padding}number {number}")
        number += 1
        time.sleep(float(pause))


def flood():
    """Writes lines as fast as possible, for two seconds."""
    number, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        os.write(1, b"flood %d\n" % number * 1)
        number += 1
    time.sleep(2.5)  # by then there is room for lines again
    say(f"flooded {number}")


def forge():
    os.write(2, b"\x1b]0;title\x07\x1b[2J\n<0>tlsbrokerd: shouted\ntlsbrokerd: forged\rtlsbrokerd: forged\n"
                b"\xff\xfe \xe2\x80\xae reversed \xc2\x9b1m\nGr\xc3\xbc\xc3\x9fe \\x41\n" + b"x" * 9000 + b"\n")
    print("on standard output", flush=True)


def grab():
    """Tries what could be done with the broker's own log: cut it, forge it, read what is typed, stop it."""
    attempt("ftruncate", lambda: os.ftruncate(2, 0))
    attempt("pwrite", lambda: os.pwrite(2, b"tlsbrokerd: forged\n", 0))
    attempt("seek", lambda: os.lseek(2, 0, os.SEEK_SET))
    attempt("read", lambda: os.read(2, 100))
    attempt("reopen", lambda: os.open("/proc/self/fd/2", os.O_RDWR))
    attempt("tcflow", lambda: termios.tcflow(2, termios.TCOOFF))
    attempt("shutdown", lambda: socket.socket(fileno=os.dup(2)).shutdown(socket.SHUT_RDWR))
    attempt("nonblock", lambda: os.set_blocking(2, False))
    os.set_blocking(2, True)
    say("grabbed")


def hold(seconds="6"):
    """Holds the lock of its pipe: splice(2) holds it while it waits for data. splice(2) has already moved a line into the pipe by
    then, so that the reader finds something to read."""
    reading, writing = socket.socketpair()
    reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    writing.sendall(b"held\n")
    say("holding")
    time.sleep(1)  # so that the line above is read before
    threading.Thread(target=lambda: os.splice(reading.fileno(), 2, 1000), daemon=True).start()
    time.sleep(float(seconds))
    writing.close()
    time.sleep(1)  # so that a new reader is there: what a killed one has read is lost
    say("let go")


def outlive():
    """Goes on writing after the queue has ended."""
    for number in range(40):
        say(f"alive {number}")
        time.sleep(0.1)
    os._exit(0)


def main():
    threading.Thread(target=take_connections, daemon=True).start()
    globals()[sys.argv[1]](*sys.argv[2:])
    time.sleep(3600)


if __name__ == "__main__":
    main()
