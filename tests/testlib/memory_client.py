# SPDX-License-Identifier: Apache-2.0
"""A TLS client for tests that choose when TLS ends and when TCP ends."""

import select
import socket
import ssl
import time

import broker as testlib


class Client:
    """TLS over memory, so that the test can end TLS and TCP separately."""

    def __init__(self, service, version=None, name="echo"):
        self.raw = socket.create_connection(("127.0.0.1", service.ports[name]), 20 * testlib.PATIENCE)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = service.context(version).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.call(self.tls.do_handshake)

    def call(self, function, *arguments):
        while True:
            try:
                result = function(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.raw.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def flush(self):
        self.raw.sendall(self.outgoing.read())

    def send(self, data):
        for start in range(0, len(data), 65536):
            self.tls.write(data[start:start + 65536])
            self.flush()

    def end(self):
        """Sends close_notify; reading goes on."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLSyscallError, ssl.SSLError):
            pass
        self.flush()

    def receive(self, size=65536):
        """Receives one piece; b"" is the authenticated end, an exception a cut."""
        try:
            return self.call(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def exchange(self, data):
        """Sends `data` and the end, while it reads to the peer's end. Returns what was read; raises an exception for a cut."""
        self.raw.setblocking(False)
        received, rest, ended, waiting = bytearray(), memoryview(data), False, b""
        deadline = time.monotonic() + 300 * testlib.PATIENCE
        while time.monotonic() < deadline:
            if not waiting and rest:
                self.tls.write(rest[:65536])
                rest = rest[65536:]
            if not waiting and not rest and not ended:
                ended = True
                try:
                    self.tls.unwrap()
                except (ssl.SSLWantReadError, ssl.SSLSyscallError, ssl.SSLError):
                    pass
            waiting = waiting or self.outgoing.read()
            readable, writable, _ = select.select([self.raw], [self.raw] if waiting else [], [], 5)
            if writable:
                waiting = waiting[self.raw.send(waiting[:2**20]):]
            if readable:
                arrived = self.raw.recv(2**18)
                self.incoming.write(arrived) if arrived else self.incoming.write_eof()
            try:
                while piece := self.tls.read(2**18):
                    received += piece
                return bytes(received)
            except ssl.SSLZeroReturnError:
                return bytes(received)
            except ssl.SSLWantReadError:
                pass
        raise TimeoutError("no end")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.raw.close()
