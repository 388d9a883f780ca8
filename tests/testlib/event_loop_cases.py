# SPDX-License-Identifier: Apache-2.0
"""What examples/event-loop-worker has to do, as tests for relayed and for direct connections; and a client that shows what the
worker does on the wire."""

import concurrent.futures
import hashlib
import os
import re
import select
import signal
import socket
import ssl
import struct
import threading
import time

import broker as testlib

MIB = 2**20


def largest_buffer(setting):
    """The size to which a socket's buffer may grow (tcp(7)), in whole MiB."""
    with open(f"/proc/sys/net/ipv4/{setting}", encoding="ascii") as file:
        return -(-int(file.read().split()[2]) // MIB) * MIB


MUCH = 4 * MIB + sum(map(largest_buffer, ("tcp_rmem", "tcp_wmem")))  # more than fits into the kernel's buffers on the way
BUFFERS = 64 * 1024  # of a client's socket
OWN = 7              # descriptors: standard ones, queue, requests, epoll, signals
FEW = 16             # descriptors in all
LINE = 16 * 1024     # no line may be longer
CONFIGURATION = """
[certificate.it]
chain = "{certificate.chain}"
key = "{certificate.key}"
[service.upper]
listen = ["127.0.0.1:{upper}"]
certificates = ["it"]
ktls = "{ktls}"
[service.upper.worker]
command = ["{worker}"]
user = "www-data"
read_only = ["{library}"]
profile = "strict"
[service.few]
listen = ["127.0.0.1:{few}"]
certificates = ["it"]
ktls = "{ktls}"
[service.few.worker]
command = ["{worker}"]
user = "daemon"
read_only = ["{library}"]
limits = {{ files = {files} }}
"""


class Client:
    """A TLS client over memory: the test can hold every record back, and data that comes after close_notify is read."""

    def __init__(self, port, context, buffers=None):
        self.raw = socket.socket()
        self.raw.settimeout(60 * testlib.PATIENCE)
        if buffers:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        self.raw.connect(("127.0.0.1", port))
        self.name = "{}:{}".format(*self.raw.getsockname())
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.answers = b""
        self._call(self.tls.do_handshake)
        self.raw.sendall(self.outgoing.read())

    def _call(self, function, *arguments):
        while True:
            try:
                return function(*arguments)
            except ssl.SSLWantReadError:
                if handshake := self.outgoing.read():  # sendall() waits for room even if there is nothing to send
                    self.raw.sendall(handshake)
                data = self.raw.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def records(self, data, end=False):
        """The records that carry these bytes over the wire, with close_notify behind them if `end` is set."""
        for start in range(0, len(data), 16384):
            self.tls.write(data[start:start + 16384])
        if end:
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass  # the other side's close_notify has not come yet
        return self.outgoing.read()

    def send(self, data, end=False):
        self.raw.sendall(self.records(data, end))

    def send_until_stuck(self, wire):
        """Sends until there has been no room for a while; returns how many bytes were taken."""
        patience, sent = self.raw.gettimeout(), 0
        self.raw.settimeout(testlib.PATIENCE)
        try:
            while sent < len(wire):
                sent += self.raw.send(wire[sent:sent + 65536])
        except TimeoutError:
            pass
        self.raw.settimeout(patience)
        return sent

    def receive(self, size=65536):
        """Receives one piece; b"" at the authenticated end, an exception if the stream was cut."""
        try:
            return self._call(self.tls.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def line(self):
        while b"\n" not in self.answers:
            data = self.receive()
            if not data:
                raise EOFError(self.answers)
            self.answers += data
        line, _, self.answers = self.answers.partition(b"\n")
        return line

    def rest(self):
        """Everything up to the authenticated end."""
        rest, self.answers = bytearray(self.answers), b""
        while data := self.receive():
            rest += data
        return bytes(rest)

    def reset(self):
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.raw.close()


class EventLoopWorker:
    """Tests for subclasses that set `ktls`, the broker's setting; each test leaves the worker as it was."""

    ktls = None

    @classmethod
    def setUpClass(cls):
        cls.ports = {"upper": testlib.free_port(), "few": testlib.free_port()}
        cls.broker = testlib.Broker("")
        certificate = testlib.Certificate(cls.broker.directory)
        cls.broker.write_config(CONFIGURATION.format(
            certificate=certificate, ktls=cls.ktls, files=FEW, worker=testlib.program("examples/event-loop-worker"),
            library=testlib.program("client-lib"), **cls.ports))
        cls.context = testlib.tls_context(certificate)
        cls.enterClassContext(cls.broker)

    def setUp(self):
        self.worker = self.pid()
        self.addCleanup(self.assert_unchanged)  # registered first, so it runs last: all clients have gone

    def assert_unchanged(self):
        if self.worker:
            self.assertEqual(self.pid(), self.worker, "the same worker")
            testlib.wait_until(lambda: len(os.listdir(f"/proc/{self.worker}/fd")) == OWN, "closed connections")

    def client(self, service="upper", **options):
        return self.enterContext(Client(self.ports[service], self.context, **options))

    def ask(self, client, line):
        client.send(line + b"\n")
        self.assertEqual(client.line(), line.upper())

    def pid(self):
        started = r"started role=worker service=upper pid=(\d+)"
        self.broker.wait_for_log(started)
        return int(re.findall(started, self.broker.log_text())[-1])

    def assert_idle(self, seconds):
        """The worker waits and does not spin: a tenth of this time would be much for looking at the clock once a second."""
        before = self.computed()
        time.sleep(seconds)
        self.assertLess(self.computed() - before, seconds / 10)

    def computed(self):
        with open(f"/proc/{self.worker}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_fifty_clients(self):
        everybody = threading.Barrier(50)

        def talk(number):
            with Client(self.ports["upper"], self.context) as client:
                everybody.wait(60 * testlib.PATIENCE)
                for start in range(0, 200, 10):
                    lines = [b"client %d line %d " % (number, i) + b"\xc3\xa4z" * (i * number % 300)
                             for i in range(start, start + 10)]
                    client.send(b"\n".join(lines) + b"\n")
                    for line in lines:
                        if (answer := client.line()) != line.upper():
                            return f"{line} was answered with {answer}"
                client.send(b"the last one", end=True)
                return client.rest()

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            self.assertEqual(set(pool.map(talk, range(50))), {b"THE LAST ONE"})

    def test_who_does_not_read_has_to_wait(self):
        lines = bytearray(os.urandom(MUCH // 2).hex().encode())
        lines[63::64] = b"\n" * (MUCH // 64)
        client = self.client(buffers=BUFFERS)
        wire = memoryview(client.records(lines, end=True))
        sent = client.send_until_stuck(wire)
        self.assertLess(sent, len(wire), "nothing held the client back")
        print(f"\n  {sent // 1024} KiB of {len(wire) // 1024} were sent before the first read")
        self.assert_idle(testlib.PATIENCE)
        self.ask(self.client(), b"nobody else waits")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sending = pool.submit(client.raw.sendall, wire[sent:])
            answers = client.rest()
            sending.result()
        self.assertEqual(hashlib.sha256(answers).hexdigest(), hashlib.sha256(lines.upper()).hexdigest())

    def test_who_is_cut_off(self):
        for leave in (lambda client: client.raw.close(), Client.reset):
            client = self.client()
            self.ask(client, b"a whole line")
            client.send(b"half a li")
            leave(client)
            self.broker.wait_for_log(f"event-loop-worker: {client.name}: The stream was cut off before the peer ended it$")
            self.ask(self.client(), b"the next")

    def test_a_line_without_end(self):
        client = self.client()
        self.ask(client, b"x" * (LINE - 1))
        client.send(b"x" * LINE)
        self.assertEqual(testlib.ending(client.receive), "cut")
        self.broker.wait_for_log(f"event-loop-worker: {client.name}: Message too long$")

    def test_part_of_a_record(self):
        """On kernel 6.1 a part of a record makes a direct connection readable, although there is nothing to read."""
        client = self.client()
        record = client.records(b"in two parts\n")
        client.raw.sendall(record[:-5])
        time.sleep(0.2 * testlib.PATIENCE)
        self.assert_idle(testlib.PATIENCE)
        client.raw.sendall(record[-5:])
        self.assertEqual(client.line(), b"IN TWO PARTS")

    def test_more_clients_than_descriptors(self):
        clients = [self.client("few") for _ in range(FEW)]
        for client in clients:
            client.send(b"me too\n")
        served = []
        while len(served) < len(clients):
            waiting = [client.raw for client in clients if client not in served]
            readable, _, _ = select.select(waiting, [], [], 20 * testlib.PATIENCE)
            self.assertTrue(readable, f"only {len(served)} were served")
            for client in [client for client in clients if client.raw in readable]:
                self.assertEqual(client.line(), b"ME TOO")
                client.send(b"", end=True)
                self.assertEqual(client.rest(), b"")
                served.append(client)
        self.broker.wait_for_log(r"event-loop-worker: accept: Too many open files")

    def test_sigterm(self):
        stalled, silent, polite = self.client(buffers=BUFFERS), self.client(), self.client()
        for client in (stalled, silent, polite):
            self.ask(client, b"hello")
        wire = memoryview(stalled.records(b"line after line\n" * (MUCH // 16)))
        self.assertLess(stalled.send_until_stuck(wire), len(wire))
        os.kill(self.worker, signal.SIGTERM)
        self.assertEqual(polite.rest(), b"")
        polite.raw.close()
        self.assertEqual(silent.rest(), b"")
        status = r"\d+" if testlib.sanitized() else "0"  # a confined process cannot look for leaks, and then exits with an error
        self.broker.wait_for_log(f"ended role=worker service=upper pid={self.worker} status={status}$")
        former, self.worker = self.worker, None
        # The worker may have cut this client off; but sometimes the kernel finds room for the last answers after all.
        if f"event-loop-worker: {stalled.name}: Connection timed out" in self.broker.log_text():
            self.assertEqual(testlib.ending(stalled.receive), "cut")
        self.ask(self.client(), b"the next worker")
        testlib.wait_until(lambda: self.pid() != former, "log of the next worker")
