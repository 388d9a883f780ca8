#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker for tests, written by protocol/PROTOCOL.md and nothing else. Its commands, one in a line:

    WHO               one line of JSON: what the hand-off says of this connection
    ECHO n            n bytes follow and come back
    SINK n            n bytes follow; their SHA-256
    SOURCE n seed     n pseudo-random bytes, then their SHA-256; see source()
    END               ends the connection; so does the client's close_notify
    ABORT             closes it without an end
    WATCH             says "watching", reads to the end, and logs which end it was
    COUNT             the same, and says nothing
    LATE              the same, but only begins to read when tickets that come in silence would have come
    PID               the worker's process id
    SHUTDOWN-QUEUE    shuts the queue down, which no worker should do
    PEEK              the error of looking at what waits in the queue without taking it
    SPIN              computes for ever
    STALL             reads nothing more, for a minute
    TOKEN             the rekey token, in hexadecimal
    REKEY d token     asks the broker for new keys of direction d with this token; status and the next token
    RACE d token      the same from two threads at once; both statuses
    REQUEST n hex     sends n descriptors (the first for the answer) and these bytes to the broker; its answer or "-"
    FLOOD n           sends n malformed requests
    FILE which        sends a request with a file where the CONNECTION or the ANSWER socket should be
    DIAL name text    has the broker connect to an upstream, sends it the text (| for CRLF), tells all: see opened()
    DIALS n name      asks n times for an upstream, and waits for no answer
    WRAP host port name text [alpn]... [cert:NAME]   connects by itself and has that wrapped, as a client; see wrap_as_client()
    PUT /n/seed HTTP  for curl: SINK, SOURCE and WHO in one, the hashes in the header
"""

import array
import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time

SOL_TLS, SET_RECORD_TYPE = 282, 1
ALERT, HANDSHAKE, DATA = 21, 22, 23
KEY_UPDATE = bytes([24, 0, 0, 1])
NEW_SESSION_TICKET = b"\4"
# With "hold" the worker only takes connections and keeps them, after it has sent one byte.
HOLDS = "hold" in sys.argv[1:]
MODES = {1: "direct", 2: "bridge", 3: "relay"}
TEXTS = {0x01: "alpn", 0x02: "server_name", 0xE1: "reason", 0xE3: "service"}
SSL_TEXTS = {0x21: "version", 0x23: "cipher", 0x25: "key_algorithm", 0x26: "group"}


@functools.lru_cache(maxsize=2)
def source(size, seed):
    return random.Random(seed).randbytes(size)


@functools.lru_cache(maxsize=2)
def source_hash(size, seed):
    return hashlib.sha256(source(size, seed)).hexdigest()


def fields(packet):
    while packet:
        size = int.from_bytes(packet[1:3], "big")
        yield packet[0], packet[3:3 + size]
        packet = packet[3 + size:]


def addresses(packet):
    if packet[13] == 0x11:
        peer, local = (socket.inet_ntop(socket.AF_INET, packet[i:i + 4]) for i in (16, 20))
        ports = packet[24:28]
    else:
        peer, local = (socket.inet_ntop(socket.AF_INET6, packet[i:i + 16]) for i in (16, 32))
        ports = packet[48:52]
    return {"peer": [peer, int.from_bytes(ports[:2], "big")], "local": [local, int.from_bytes(ports[2:], "big")]}


def describe(packet):
    told = {"size": len(packet), **addresses(packet)}
    for kind, value in fields(packet[16 + (12 if packet[13] == 0x11 else 36):]):
        if kind in TEXTS:
            told[TEXTS[kind]] = value.decode("utf-8", "replace")
        elif kind == 0x05:
            told["conn"] = value.hex()
        elif kind == 0xE0:
            told["mode"], told["resumed"] = MODES[value[1]], bool(value[2] & 1)
            if value[2] & 2:
                told["role"] = "client"
        elif kind == 0xE2:
            told["token"] = value.hex()
        elif kind == 0x20:
            told["client"], told["verify"] = value[0], int.from_bytes(value[1:5], "big")
            told |= {SSL_TEXTS[k]: v.decode() for k, v in fields(value[5:]) if k in SSL_TEXTS}
    return told


class Truncated(Exception):
    """The stream ended without the peer's close_notify, or it broke the rules."""


def ask(message, descriptors, timeout=5):
    """The broker's answer to a request (PROTOCOL.md section 6); b"" if there is none."""
    requests = socket.socket(fileno=os.dup(descriptor_of("tlsbroker-requests.")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, ours, theirs:
        ours.settimeout(timeout)
        rights = array.array("i", [theirs.fileno(), *descriptors][:len(descriptors) + 1])
        requests.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        theirs.close()
        try:
            return ours.recv(1024)
        except TimeoutError:
            return b""


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def open_connection(message, descriptors=(), timeout=30):
    """Sends Wrap or Dial. Returns (0, description, descriptor), or (why not, the broker's words, None)."""
    requests = socket.socket(fileno=os.dup(descriptor_of("tlsbroker-requests.")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, ours, theirs:
        ours.settimeout(timeout)
        rights = array.array("i", [theirs.fileno(), *descriptors])
        requests.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        theirs.close()
        answer, fds, _, _ = socket.recv_fds(ours, 17000, 1, socket.MSG_CMSG_CLOEXEC)
    if answer[:5] != b"\1\5\3\0\1" or len(fds) != (answer[5] == 0):
        return -1, answer.hex(), None
    value = answer[9:]
    return (0, describe(value), fds[0]) if answer[5] == 0 else (answer[5], value.decode(), None)


def opened(answer, text):
    """The answer to DIAL and WRAP, for JSON: the result, the description, and what the server said until its end."""
    result, told, fd = answer
    if result != 0:
        return {"result": result, "why": told}
    with socket.socket(fileno=fd) as connection:
        stream = Stream(connection, told["mode"] == "direct", bytes.fromhex(told.get("token", "")),
                        told.get("role") == "client")
        said, how = b"", "end"
        try:
            if stream.token:
                stream.change_keys(2)
            stream.send(text.encode() + b"\n")
            while data := stream.receive():
                said += data
        except (OSError, Truncated) as why:
            how = str(why)
        if how == "end":
            with contextlib.suppress(OSError):  # a server that has sent its end may be gone
                stream.end()
        return {"result": 0, "said": said.decode(), "how": how, "blocking": connection.getblocking(), **told}


def wrap_as_client(host, port, name, text, *options):
    text = text.replace("_", " ").replace("|", "\r\n")
    with socket.create_connection((host, int(port))) as plain:
        message = b"\1\3" + tlv(4, b"\2") + tlv(5, name.encode())
        for option in options:
            kind, value = (9, option[5:]) if option.startswith("cert:") else (6, option)
            message += tlv(kind, value.encode())
        return opened(open_connection(message, [plain.fileno()]), text)


def rekey(connection, direction, token):
    """Asks for new keys; returns the status and the next token."""
    message = bytes([1, 1, 2, 0, 1, direction, 1]) + len(token).to_bytes(2, "big") + token
    answer = ask(message, [connection.fileno()])
    return (answer[5], answer[9:]) if answer[:5] == b"\1\2\3\0\1" else (-1, b"")


class Stream:
    """One connection. Reading blocks until everything asked for has come; b"" is the authenticated end."""

    def __init__(self, connection, direct, token=b"", client=False):
        self.connection, self.direct, self.buffer, self.token = connection, direct, b"", token
        self.client = client

    def change_keys(self, direction):
        status, token = rekey(self.connection, direction, self.token)
        if status != 0:
            raise Truncated(f"no new keys: {status}")
        self.token = token

    def receive(self):
        return self._receive_record() if self.direct else self._receive_bytes()

    def _receive_record(self):
        while True:
            data, control, _, _ = self.connection.recvmsg(65536, socket.CMSG_SPACE(1))
            kind = control[0][2][0] if control else DATA if data else None
            if kind == DATA and data:
                return data
            if kind == ALERT and data[1:] == b"\0":
                return b""
            if kind == HANDSHAKE and data[:4] == KEY_UPDATE and self.token:
                self.change_keys(1)
                if data[4]:
                    self.change_keys(2)
                continue
            if kind == HANDSHAKE and self.client and data[:1] == NEW_SESSION_TICKET:
                continue
            if kind != DATA and not (kind == ALERT and data[1:] == b"\x5a"):
                raise Truncated(f"record {kind}: {data.hex()}")

    def _receive_bytes(self):
        data = self.connection.recv(65536)
        if not data:
            poll = select.poll()
            poll.register(self.connection, 0)
            if poll.poll(0):
                raise Truncated("cut")
        return data

    def line(self):
        while b"\n" not in self.buffer:
            data = self.receive()
            if not data:
                return ""
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("latin-1").strip()

    def pieces(self, size):
        while size:
            piece, self.buffer = self.buffer[:size], self.buffer[size:]
            piece = piece or self.receive()
            if not piece:
                raise Truncated(f"{size} bytes are missing")
            self.buffer, piece = self.buffer + piece[size:], piece[:size]
            size -= len(piece)
            yield piece

    def send(self, data):
        self.connection.sendall(data)

    def acknowledge_at_once(self):
        """For clients that write little at a time and leave Nagle's algorithm on, as gnutls-cli does: each of their writes would
        wait 40 ms for the acknowledgement of the write before it."""
        if self.direct:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def end(self):
        if self.direct:
            self.connection.sendmsg([b"\1\0"], [(SOL_TLS, SET_RECORD_TYPE, bytes([ALERT]))])
            self.connection.shutdown(socket.SHUT_WR)
        else:
            fd = array.array("i", [self.connection.fileno()])
            self.connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        while self.connection.recv(65536):
            pass


def sink(stream, size):
    digest = hashlib.sha256()
    stream.acknowledge_at_once()
    for piece in stream.pieces(size):
        digest.update(piece)
    return digest.hexdigest()


def put(stream, path, told):
    size, seed = path.strip("/").split("/")
    length = 0
    while line := stream.line():
        name, _, value = line.partition(":")
        length = int(value) if name.lower() == "content-length" else length
    head = {"X-Received": sink(stream, length), "X-Connection": json.dumps(told),
            "Content-Length": size, "Connection": "close"}
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    stream.send("\r\n".join(lines).encode() + source(int(size), seed))


def watch(stream):
    size, how = len(stream.buffer), "end"
    try:
        while data := stream.receive():
            size += len(data)
    except (Truncated, OSError):
        how = "cut"
    print(f"saw {how} after {size}", flush=True)


def serve(stream, told):
    while line := stream.line():
        command, *arguments = line.split()
        if command == "WHO":
            stream.send(json.dumps(told).encode() + b"\n")
        elif command == "ECHO":
            for piece in stream.pieces(int(arguments[0])):
                stream.send(piece)
        elif command == "SINK":
            stream.send(sink(stream, int(arguments[0])).encode() + b"\n")
        elif command == "SOURCE":
            wanted = int(arguments[0]), arguments[1]
            stream.send(source(*wanted))
            stream.send(source_hash(*wanted).encode() + b"\n")
        elif command == "PUT":
            return put(stream, arguments[0], told)
        elif command == "ABORT":
            raise Truncated("as asked")
        elif command == "WATCH":
            stream.send(b"watching\n")
            watch(stream)
        elif command == "COUNT":
            watch(stream)
        elif command == "LATE":
            time.sleep(2.5)
            watch(stream)
        elif command == "PID":
            stream.send(b"%d\n" % os.getpid())
        elif command == "SHUTDOWN-QUEUE":
            stream.send(b"done\n")
            socket.socket(fileno=os.dup(queue_number())).shutdown(socket.SHUT_RDWR)
        elif command == "PEEK":
            stream.send(f"{peek()}\n".encode())
        elif command == "TOKEN":
            stream.send(stream.token.hex().encode() + b"\n")
        elif command == "REKEY":
            status, token = rekey(stream.connection, int(arguments[0]), bytes.fromhex(arguments[1]))
            stream.send(f"{status} {token.hex()}\n".encode())
        elif command == "RACE":
            import concurrent.futures  # imported here: it is a third of the time that this program takes to start
            request = stream.connection, int(arguments[0]), bytes.fromhex(arguments[1])
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda _: rekey(*request), range(2)))
            token = max(token for _, token in answers)
            stream.send(f"{sorted(status for status, _ in answers)} {token.hex()}\n".encode())
        elif command == "REQUEST":
            count = int(arguments[0])
            answer = ask(bytes.fromhex(arguments[1]), [stream.connection.fileno()] * (count - 1), 1)
            stream.send(f"{answer.hex() or '-'}\n".encode())
        elif command == "FLOOD":
            flood(int(arguments[0]))
            stream.send(b"done\n")
        elif command == "FILE":
            request_with_file(arguments[0])
            stream.send(b"done\n")
        elif command == "DIAL":
            text = " ".join(arguments[1:]).replace("|", "\r\n")
            answer = opened(open_connection(b"\1\4" + tlv(5, arguments[0].encode())), text)
            stream.send(json.dumps(answer).encode() + b"\n")
        elif command == "DIALS":
            dial_often(int(arguments[0]), arguments[1])
            stream.send(b"done\n")
        elif command == "WRAP":
            stream.send(json.dumps(wrap_as_client(*arguments)).encode() + b"\n")
        elif command == "SPIN":
            while True:
                pass
        elif command == "STALL":
            time.sleep(60)
        elif command == "END":
            return None
    return None


def peek():
    try:
        socket.socket(fileno=os.dup(queue_number())).recvmsg(16384, 64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "none"


def flood(count):
    requests = socket.socket(fileno=os.dup(descriptor_of("tlsbroker-requests.")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, ours, theirs:
        rights = array.array("i", [theirs.fileno(), theirs.fileno()])
        for i in range(count):
            requests.sendmsg([random.Random(i).randbytes(1 + i % 1024)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def dial_often(count, name):
    requests = socket.socket(fileno=os.dup(descriptor_of("tlsbroker-requests.")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, ours, theirs:
        for _ in range(count):
            requests.sendmsg([b"\1\4" + tlv(5, name.encode())],
                             [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])


def request_with_file(which):
    requests = socket.socket(fileno=os.dup(descriptor_of("tlsbroker-requests.")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with requests, ours, theirs, open(__file__, "rb") as file:
        rights = array.array("i", [file.fileno() if which == "ANSWER" else theirs.fileno(), file.fileno()])
        requests.sendmsg([bytes([1, 1, 2, 0, 1, 1, 1, 0, 1, 0])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def handle(fd, told):
    with socket.socket(fileno=fd) as connection:
        stream = Stream(connection, told["mode"] == "direct", bytes.fromhex(told.get("token", "")))
        try:
            serve(stream, told)
            stream.end()
        except (OSError, Truncated):
            pass  # the client is gone: closing without an end is the right answer


def descriptor_of(prefix):
    names = os.environ["LISTEN_FDNAMES"].split(":")
    return 3 + next(i for i, name in enumerate(names) if name.startswith(prefix))


def queue_number():
    return descriptor_of("tlsbroker.")


def main():
    with contextlib.suppress(FileNotFoundError), open(__file__ + ".exit", encoding="ascii") as status:
        sys.exit(int(status.read()))
    queue = socket.socket(fileno=queue_number())
    end, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    # At SIGTERM the worker takes no more connections, and its threads finish; a second SIGTERM does not wait for them.
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    held = []
    while True:
        if end in select.select([queue, end], [], [])[0]:
            return
        try:
            # Not socket.recv_fds(), which ignores its flags.
            packet, control, _, _ = queue.recvmsg(16384, socket.CMSG_LEN(4),
                                                  socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        if not packet:
            return
        fd, = struct.unpack("i", control[0][2])
        if HOLDS:
            held.append(fd)
            os.write(fd, b"!")
            continue
        threading.Thread(target=handle, args=(fd, describe(packet))).start()


if __name__ == "__main__":
    main()
