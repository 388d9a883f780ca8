#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker in plain Python, written from protocol/PROTOCOL.md alone.

Sends a first line that says what the connection is, then answers every line of text with the same line:

    [service.echo.worker]
    command = ["/usr/bin/python3", "/path/to/worker.py"]
    user = "www-data"
    read_only = ["/path/to"]
"""

import os
import select
import signal
import socket
import struct
import sys

MAX_HANDOFF = 16 * 1024
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
DIRECT = 1
MODES = {1: "direct", 2: "bridge", 3: "relay"}
SSL, HANDOFF, REASON, REKEY_TOKEN, SERVICE = 0x20, 0xE0, 0xE1, 0xE2, 0xE3
SSL_VERSION, SSL_CIPHER = 0x21, 0x23
SOL_TLS, TLS_SET_RECORD_TYPE, TLS_GET_RECORD_TYPE = 282, 1, 2
ALERT, HANDSHAKE, DATA = 21, 22, 23
CLOSE_NOTIFY = b"\x01\x00"
USER_CANCELED = 90
KEY_UPDATE = b"\x18\x00\x00\x01"
RECEIVE, SEND = 1, 2
DONE, BUSY = 0, 1
PATIENCE = 5.0  # seconds that the broker may take to answer


def tlvs(data):
    """{type: value} of a run of TLVs: u8 type, u16 length, value."""
    found = {}
    while data:
        kind, length = struct.unpack_from("!BH", data)
        if len(data) < 3 + length:
            raise ValueError("a TLV is cut off")
        found[kind] = data[3 : 3 + length]
        data = data[3 + length :]
    return found


def describe(message):
    """The hand-off's description: a PROXY protocol v2 header."""
    if message[:12] != SIGNATURE or message[12] != 0x21:
        raise ValueError("not a PROXY v2 header")
    family = {0x11: socket.AF_INET, 0x21: socket.AF_INET6}[message[13]]
    if struct.unpack_from("!H", message, 14)[0] != len(message) - 16:
        raise ValueError("wrong length")
    size = 4 if family == socket.AF_INET else 16
    fields = tlvs(message[16 + 2 * size + 4 :])
    version, mode, flags = fields[HANDOFF]
    if version != 1:
        raise ValueError(f"hand-off version {version}")
    tls = tlvs(fields.get(SSL, bytes(5))[5:])
    return {
        "mode": mode,
        "resumed": bool(flags & 1),
        "peer": socket.inet_ntop(family, message[16 : 16 + size]),
        "service": fields[SERVICE].decode(),
        "reason": fields.get(REASON, b"-").decode(),
        "token": fields.get(REKEY_TOKEN, b""),
        "version": tls.get(SSL_VERSION, b"-").decode(),
        "cipher": tls.get(SSL_CIPHER, b"-").decode(),
    }


def ask(requests, direction, token, stream):
    """The status and the token of the broker's answer to a Rekey request; no status if there is no answer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            rekey = struct.pack("!BBBHBBH", 1, 1, 2, 1, direction, 1, len(token)) + token
            socket.send_fds(requests, [rekey], [theirs.fileno(), stream.fileno()])
        ours.settimeout(PATIENCE)
        answer = ours.recv(1024)
    if answer[:5] != b"\x01\x02\x03\x00\x01" or len(answer) < 9:
        return None, b""
    return answer[5], answer[9:]


class Connection:
    """Reads and ends a connection as PROTOCOL.md says for its mode."""

    def __init__(self, stream, description, requests):
        self.stream, self.description, self.requests = stream, description, requests
        self.direct = description["mode"] == DIRECT
        self.token = description["token"]

    def read(self):
        """Bytes, or b"" at the peer's authenticated end; ConnectionError if it was cut off."""
        if not self.direct:
            data = self.stream.recv(65536)
            if not data and self._hung_up():
                raise ConnectionError("truncated")
            return data
        while True:
            data, control, _, _ = self.stream.recvmsg(65536, socket.CMSG_SPACE(1))
            kind = control[0][2][0] if control else None
            if not data and kind != DATA:
                raise ConnectionError("truncated")
            if data and kind in (None, DATA):
                return data
            if kind == ALERT and data[1:] == CLOSE_NOTIFY[1:]:
                return b""
            if kind == ALERT and data[1:] != bytes([USER_CANCELED]):
                raise ConnectionError(f"alert {data[1:].hex()}")
            if kind == HANDSHAKE:
                self._follow(data)
            elif kind not in (ALERT, DATA):
                raise ConnectionError(f"a record of type {kind}")

    def _follow(self, record):
        """Follows the peer's KeyUpdate. There is one thread, so nothing is written meanwhile."""
        if record[:1] == KEY_UPDATE[:1] and record[1:4] != KEY_UPDATE[1:]:
            self._fail(50, "a KeyUpdate of a wrong length")
        if len(record) != 5 or record[:4] != KEY_UPDATE:
            self._fail(10, "a handshake record that is no KeyUpdate")
        if record[4] > 1:
            self._fail(47, "a KeyUpdate that asks for something unknown")
        self._change_keys(RECEIVE)
        if record[4]:
            self._change_keys(SEND)

    def _change_keys(self, direction):
        if not self.token or self.requests is None:
            self._fail(80, "keys cannot change here")
        while True:
            try:
                status, token = ask(self.requests, direction, self.token, self.stream)
            except OSError as error:  # TimeoutError is an OSError
                self._fail(80, f"no next keys: {error}")
            if status != BUSY:
                break
            select.select([], [self.stream], [])  # until there is room for our KeyUpdate
        if status != DONE:
            self._fail(80, f"no next keys: status {status}")
        self.token = token

    def _fail(self, number, why):
        self.stream.sendmsg([bytes([2, number])], [(SOL_TLS, TLS_SET_RECORD_TYPE, bytes([ALERT]))])
        raise ConnectionError(why)

    def _hung_up(self):
        poll = select.poll()
        poll.register(self.stream, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def end(self):
        """Ends our direction in an authenticated way: the peer sees that nothing is missing."""
        if self.direct:
            kind = (SOL_TLS, TLS_SET_RECORD_TYPE, bytes([ALERT]))
            self.stream.sendmsg([CLOSE_NOTIFY], [kind])
            self.stream.shutdown(socket.SHUT_WR)
        else:
            socket.send_fds(self.stream, [b"\0"], [self.stream.fileno()])


def serve(connection):
    about = connection.description
    peer = f"{about['version']} {about['cipher']} {MODES[about['mode']]} {about['reason']}"
    connection.stream.sendall(peer.encode() + b"\n")
    while data := connection.read():
        connection.stream.sendall(data)
    connection.end()


def find(prefix):
    """The socket whose name in LISTEN_FDNAMES begins with `prefix` (sd_listen_fds(3)); None if there is none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit("worker.py: to be started by tlsbrokerd")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    numbers = [3 + i for i, name in enumerate(names) if name.startswith(prefix)]
    return socket.socket(fileno=numbers[0]) if numbers else None


def told_to_end():
    """A pipe that becomes readable when SIGTERM comes: the worker then finishes what it has, and ends. A second SIGTERM ends it
    at once."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    return readable


def receive(queue):
    """Receives one hand-off, without waiting. (Python 3.11's socket.recv_fds() ignores its flags.)"""
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    message, control, flags, _ = queue.recvmsg(MAX_HANDOFF, socket.CMSG_LEN(4), flags)
    return message, [fd for _, _, data in control for (fd,) in struct.iter_unpack("i", data)], flags


def connections(queue):
    """Yields the hand-offs, until there are no more or this worker is to end. A connection that it has not taken waits for
    another worker."""
    end = told_to_end()
    while True:
        readable, _, _ = select.select([queue, end], [], [])
        if end in readable:
            return
        try:
            message, fds, flags = receive(queue)
        except BlockingIOError:
            continue  # another worker was faster
        if not message:
            return
        yield message, fds, flags


def main():
    queue, requests = find("tlsbroker."), find("tlsbroker-requests.")
    if queue is None:
        sys.exit("worker.py: to be started by tlsbrokerd")
    for message, fds, flags in connections(queue):
        streams = [socket.socket(fileno=fd) for fd in fds]
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(streams) != 1:
                raise ValueError("malformed hand-off")
            serve(Connection(streams[0], describe(message), requests))
        except (OSError, ValueError, KeyError, struct.error) as error:
            print(f"worker.py: {error}", file=sys.stderr)
        finally:
            for stream in streams:
                stream.close()


if __name__ == "__main__":
    main()
