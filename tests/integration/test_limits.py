# SPDX-License-Identifier: Apache-2.0
"""What a handshaker has to stand from the network: garbage, silence, slow clients, crowds. It counts and closes such connections,
and serves the others."""

import json
import os
import socket
import ssl
import subprocess
import time
import unittest

import broker as testlib
import echo_service

TOOL = testlib.program("client-lib/tools/tlsbroker")


def client_hello(context):
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class Limits(unittest.TestCase):
    def start(self, **options):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}, handshakers=1, **options))
        self.port = self.service.ports["echo"]

    def counters(self):
        shown = subprocess.run([TOOL, "status", "--json", "--runtime-dir", os.path.join(self.service.directory, "run")],
                               capture_output=True, check=True, timeout=20 * testlib.PATIENCE)
        return json.loads(shown.stdout)["counters"]

    def wait_for_count(self, name, value):
        testlib.wait_until(lambda: self.counters()[name] == value, f"{name} = {value}")

    def plain(self, source="127.0.0.1"):
        raw = socket.create_connection(("127.0.0.1", self.port), 20 * testlib.PATIENCE, (source, 0))
        self.addCleanup(raw.close)
        return raw

    def assert_closed(self, raw):
        try:
            while raw.recv(4096):
                pass
        except ConnectionResetError:
            pass

    def test_garbage(self):
        self.start()
        hello = client_hello(self.service.context())
        pieces = {
            "random": os.urandom(4096), "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "ssl2": b"\x80\x2e\x01\x00\x02" * 20,
            "too long": b"\x16\x03\x01\xff\xff" + bytes(70000), "empty record": b"\x16\x03\x01\x00\x00",
            "alert": b"\x15\x03\x03\x00\x02\x02\x28", "data": b"\x17\x03\x03\x00\x10" + bytes(16),
            "no hello": b"\x16\x03\x03\x00\x04\x14\x00\x00\x00",
            "huge hello": b"\x16\x03\x03\x40\x00\x01\xff\xff\xff" + bytes(16380) + (b"\x16\x03\x03\x40\x00" + bytes(16384)) * 20,
            "hello twice": hello + hello, "changed hello": bytes(b ^ (i % 7 == 6) for i, b in enumerate(hello))}
        for name, piece in pieces.items():
            with self.subTest(name):
                raw = self.plain()
                try:
                    raw.sendall(piece)
                    raw.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # closed already
                self.assert_closed(raw)
        self.wait_for_count("handshakes_failed", len(pieces))
        self.assertEqual(json.loads(self.service.ask())["resumed"], False)

    def test_a_hello_byte_by_byte(self):
        self.start()
        context = self.service.context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        raw = self.plain()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    raw.sendall(bytes([byte]))
                incoming.write(raw.recv(65536))
        raw.sendall(outgoing.read())
        self.wait_for_count("handshakes_full", 1)

    def test_the_time_limit_is_for_all_of_a_handshake(self):
        self.start(broker_lines='handshake_timeout = "1s"')
        drip, silent = self.plain(), self.plain()
        hello = client_hello(self.service.context())
        began = time.monotonic()
        try:
            for byte in hello:
                drip.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass
        self.assertLess(time.monotonic() - began, len(hello) * 0.05, "cut off while it still sent")
        self.assert_closed(silent)
        self.wait_for_count("handshakes_timed_out", 2)

    def test_a_crowd_from_one_address(self):
        self.start(broker_lines="max_handshakes_per_source = 20")
        crowd = [self.plain() for _ in range(30)]
        self.wait_for_count("refused_source_limit", 10)
        self.wait_for_count("handshakes_active", 20)
        refused = self.plain()
        self.assert_closed(refused)
        raw = self.plain("127.0.0.2")
        with self.service.context().wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(b"WHO\n")
            self.assertTrue(tls.recv(1000))
        for one in crowd:
            one.close()
        self.wait_for_count("handshakes_active", 0)
        self.assertTrue(self.service.ask())

    def test_a_crowd_from_everywhere(self):
        self.start(broker_lines="max_handshakes = 50")
        crowd = [self.plain(f"127.0.1.{i + 1}") for i in range(60)]
        self.wait_for_count("refused_total_limit", 10)
        for one in crowd:
            one.close()
        self.wait_for_count("handshakes_active", 0)
        self.assertTrue(self.service.ask())

    def test_too_many_signatures(self):
        """The keyholder refuses, the handshake fails, and both are counted; the next second has signatures again."""
        self.start(lines={"echo": "max_signatures = 1"})
        self.service.ask()

        def refused():
            # Each handshake takes a moment, so it is not said here how many there are in the second of the first one.
            try:
                self.service.ask()
            except (OSError, ssl.SSLError):
                return True
            return False

        testlib.wait_until(refused, "a signature that is refused")
        testlib.wait_until(lambda: self.counters()["sign_failed"] > 0, "its count")
        self.assertGreater(self.counters()["handshakes_failed"], 0)
        testlib.wait_until(lambda: not refused(), "a signature that is made again")

    def test_too_many_relayed(self):
        self.start(broker_lines="max_relayed = 3")
        held = [self.service.connect() for _ in range(3)]
        for tls in held:
            tls.sendall(b"WHO\n")
            self.assertTrue(tls.recv(1000))
        with self.service.connect() as refused:
            self.assertEqual(testlib.ending(refused.recv), "cut")
        self.wait_for_count("refused_relay_limit", 1)
        for tls in held:
            tls.close()
        self.wait_for_count("relay_active", 0)
        self.assertTrue(self.service.ask())


if __name__ == "__main__":
    unittest.main()
