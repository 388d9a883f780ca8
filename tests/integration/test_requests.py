# SPDX-License-Identifier: Apache-2.0
"""Requests of workers to the broker: malformed ones, floods of them, and descriptors that are traps. The worker is an attacker
here; it can disturb the requests of its own service, but no other service's handshakes."""

import os
import signal
import time
import unittest

import broker as testlib
import echo_service

WRAP, DIAL = bytes([1, 3, 4, 0, 1, 1]), bytes([1, 4, 5, 0, 1]) + b"a"
REKEY = bytes([1, 1, 2, 0, 1, 1, 1, 0, 4]) + b"none"


class Requests(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never", "other": "never"}, handshakers=1, worker_lines={"echo": "network = true"}))

    def connection(self, service="echo"):
        tls = self.enterContext(self.service.connect(service))
        return tls, tls.makefile("rb")

    def command(self, connection, text):
        tls, lines = connection
        tls.sendall(text.encode() + b"\n")
        return lines.readline().decode().strip()

    def refused(self):
        return self.service.status()["counters"]["rekey_refused"]

    def test_malformed(self):
        """A malformed request gets no answer and is counted; the next good one is read."""
        connection = self.connection()
        bad = [REKEY[:-1], REKEY + b"x", b"\2" + REKEY[1:], bytes([1, 9]) + REKEY[2:], b"\0", b"\1", bytes(1024),
               bytes([1, 1, 2, 0, 1, 3]) + REKEY[6:], bytes([1, 1, 2, 0, 2, 1, 1]) + REKEY[6:],
               bytes([1, 1, 2, 0, 1, 1, 1, 2, 1]) + bytes(513), bytes(2000), DIAL, WRAP + b"x"]
        for message in bad:
            self.assertEqual(self.command(connection, f"REQUEST 2 {message.hex()}"), "-", message[:20])
        for count in (1, 3, 5):
            self.assertEqual(self.command(connection, f"REQUEST {count} {REKEY.hex()}"), "-", count)
        self.assertEqual(self.command(connection, f"REQUEST 1 {WRAP.hex()}"), "-")
        answer = bytes.fromhex(self.command(connection, f"REQUEST 2 {REKEY.hex()}"))
        self.assertEqual(answer, bytes([1, 2, 3, 0, 1, 2, 1, 0, 0]), "refused: no token of this broker")
        testlib.wait_until(lambda: self.refused() == len(bad) + 5, "count of the refused")

    def test_a_flood_is_the_own_services_problem(self):
        flooding, other = self.connection(), self.connection("other")
        handshaker = self.service.pid_of("handshaker[0]", "echo")
        flooding[0].sendall(b"FLOOD 6000\n")
        slowest = 0
        for _ in range(20):
            start = time.monotonic()
            self.assertTrue(self.service.ask(b"PID\n", service="other"))
            slowest = max(slowest, time.monotonic() - start)
        print(f"\n  slowest handshake and answer of the other service in the flood: {slowest * 1000:.0f} ms", flush=True)
        self.assertEqual(self.command(other, f"REQUEST 2 {REKEY.hex()}")[:12], bytes([1, 2, 3, 0, 1, 2]).hex())
        self.assertEqual(flooding[1].readline(), b"done\n")
        self.assertEqual(self.service.pid_of("handshaker[0]", "echo"), handshaker)
        testlib.wait_until(lambda: self.refused() >= 6000, "all counted", 20)
        self.assertLess(sum("refused a request" in line for line in self.service.log), 30, "the log is not filled")
        self.assertLess(len(os.listdir(f"/proc/{handshaker}/fd")), 40)

    def test_a_descriptor_that_is_no_socket(self):
        """A request whose connection is a file is refused as any other; no answer can be sent if the answer socket is a file."""
        connection = self.connection()
        for command, counted in (("FILE CONNECTION", 1), ("FILE ANSWER", 2)):
            self.assertEqual(self.command(connection, command), "done")
            testlib.wait_until(lambda wanted=counted: self.refused() == wanted, "count of the refused")
        self.assertEqual(self.command(connection, f"REQUEST 2 {REKEY.hex()}")[:12], bytes([1, 2, 3, 0, 1, 2]).hex())

    def test_not_allowed(self):
        """The configuration allows no such request; or the socket is not a connected TCP socket."""
        connection = self.connection()
        for message, count, why in ((DIAL, 1, 2), (WRAP, 2, 3)):
            answer = bytes.fromhex(self.command(connection, f"REQUEST {count} {message.hex()}"))
            self.assertEqual(answer[:6], bytes([1, 5, 3, 0, 1, why]))
        testlib.wait_until(lambda: self.service.status()["counters"]["open_failed"] == 2, "count of the refused")

    def test_over_a_reload(self):
        connection = self.connection()
        self.service.reload()
        self.assertEqual(self.command(connection, f"REQUEST 2 {REKEY.hex()}")[:12], bytes([1, 2, 3, 0, 1, 2]).hex())

    def test_without_a_broker(self):
        connection = self.connection()
        handshaker = self.service.pid_of("handshaker[0]", "echo")
        os.kill(handshaker, signal.SIGSTOP)
        try:
            connection[0].sendall(f"REQUEST 2 {REKEY.hex()}\n".encode())
        finally:
            os.kill(handshaker, signal.SIGCONT)
        self.assertTrue(connection[1].readline())


if __name__ == "__main__":
    unittest.main()
