#!/usr/bin/env python3
"""A worker in plain Python, written from protocol/PROTOCOL.md alone.

Answers every line of text with the same line, behind a first line that says what the connection is:

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
ALPN, AUTHORITY, SSL, HANDOFF, REASON, SERVICE = 0x01, 0x02, 0x20, 0xE0, 0xE1, 0xE3
SSL_VERSION, SSL_CIPHER = 0x21, 0x23
SOL_TLS, TLS_SET_RECORD_TYPE, TLS_GET_RECORD_TYPE = 282, 1, 2
ALERT = 21
CLOSE_NOTIFY = b"\x01\x00"


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
        "version": tls.get(SSL_VERSION, b"-").decode(),
        "cipher": tls.get(SSL_CIPHER, b"-").decode(),
    }


class Connection:
    """Reads and ends a connection as the page says for its mode."""

    def __init__(self, stream, description):
        self.stream, self.description = stream, description
        self.direct = description["mode"] == DIRECT

    def read(self):
        """Bytes, or b"" at the peer's authenticated end; ConnectionError if it was cut off."""
        if not self.direct:
            data = self.stream.recv(65536)
            if not data and self._hung_up():
                raise ConnectionError("truncated")
            return data
        data, control, _, _ = self.stream.recvmsg(65536, socket.CMSG_SPACE(1))
        if control and control[0][2][0] == ALERT:
            if data != CLOSE_NOTIFY:
                raise ConnectionError(f"alert {data[1]}")
            return b""
        if not data:
            raise ConnectionError("truncated")
        return data

    def _hung_up(self):
        poll = select.poll()
        poll.register(self.stream, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def end(self):
        """Ends our direction: the peer sees that nothing is missing."""
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


def find_queue():
    """The descriptor that LISTEN_FDNAMES calls tlsbroker.SERVICE (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        sys.exit("worker.py: to be started by tlsbrokerd")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    number = next(3 + i for i, name in enumerate(names) if name.startswith("tlsbroker."))
    return socket.socket(fileno=number)


def told_to_end():
    """A pipe that is readable once SIGTERM has come: finish what you have, and end. A second SIGTERM does not wait."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    return readable


def connections(queue):
    """The hand-offs, until there are no more or this worker is to end. What it has not taken waits for another one."""
    end = told_to_end()
    while True:
        readable, _, _ = select.select([queue, end], [], [])
        if end in readable:
            return
        try:
            message, fds, flags, _ = socket.recv_fds(queue, MAX_HANDOFF, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue  # another worker was faster
        if not message:
            return
        yield message, fds, flags


def main():
    for message, fds, flags in connections(find_queue()):
        streams = [socket.socket(fileno=fd) for fd in fds]
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(streams) != 1:
                raise ValueError("malformed hand-off")
            serve(Connection(streams[0], describe(message)))
        except (OSError, ValueError, KeyError, struct.error) as error:
            print(f"worker.py: {error}", file=sys.stderr)
        finally:
            for stream in streams:
                stream.close()


if __name__ == "__main__":
    main()
