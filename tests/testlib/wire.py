# SPDX-License-Identifier: Apache-2.0
"""What is on the wire: a proxy that records, a reader of TLS records, and a client that decides
itself which bytes leave together."""

import socket
import ssl
import threading

CHANGE_CIPHER_SPEC, APPLICATION_DATA = 20, 23
LARGEST_BODY = 2**14 + 2048  # TLS 1.2; TLS 1.3 allows 256 only


def records(stream):
    """([(type, size of the body)], rest); ValueError at the first byte that belongs to no TLS record."""
    found, position = [], 0
    while len(stream) - position >= 5:
        kind, version = stream[position], int.from_bytes(stream[position + 1:position + 3], "big")
        size = int.from_bytes(stream[position + 3:position + 5], "big")
        known = CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA and version in (0x0301, 0x0303)
        if not known or size > LARGEST_BODY:
            raise ValueError(f"at {position} there is no TLS record: "
                             f"{bytes(stream[position:position + 16])!r}")
        if position + 5 + size > len(stream):
            break
        found.append((kind, size))
        position += 5 + size
    return found, bytes(stream[position:])


class Recording:
    def __init__(self):
        self.to_server, self.to_client = bytearray(), bytearray()
        self.finished = threading.Event()

    def streams(self):
        return {"to server": self.to_server, "to client": self.to_client}


class Tap:
    """A TCP proxy in front of `port` that records every connection in `recordings`."""

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._server.getsockname()[1]
        self.recordings = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            recording = Recording()
            self.recordings.append(recording)
            threading.Thread(target=self._carry, args=(client, recording), daemon=True).start()

    def _carry(self, client, recording):
        with client:
            try:
                with socket.create_connection(self._target) as server:
                    arguments = (client, server, recording.to_server)
                    upward = threading.Thread(target=pump, args=arguments, daemon=True)
                    upward.start()
                    pump(server, client, recording.to_client)
                    upward.join()
            except ConnectionError:
                pass
            finally:
                recording.finished.set()


def pump(source, target, record):
    """Copies until the source ends. A reset counts as an end, and is passed on as an end in both directions."""
    try:
        while data := source.recv(65536):
            record += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class SegmentClient:
    """A TLS client in memory: nothing is sent before flush()."""

    def __init__(self, port, context, session=None, timeout=60):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost",
                                    session=session)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._socket.close()

    def flush(self):
        """Sends everything in one call; returns what was sent."""
        data = self._outgoing.read()
        if data and self._socket.send(data) != len(data):
            raise OSError("the segment did not fit into the socket's buffer")
        return data

    def _fill(self):
        data = self._socket.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def handshake(self):
        """Goes on until the server has nothing more to send; the client's last flight has not been sent yet."""
        while True:
            try:
                return self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                self._fill()

    def close_notify(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the server's close_notify has not come yet

    def read_to_end(self):
        """Everything that comes, and whether it ended with close_notify."""
        answer = b""
        while True:
            try:
                data = self.tls.read(65536)
                if not data:
                    return answer, True
                answer += data
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLZeroReturnError:
                return answer, True
            except ssl.SSLEOFError:
                return answer, False
