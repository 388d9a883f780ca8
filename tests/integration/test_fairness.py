# SPDX-License-Identifier: Apache-2.0
"""There is one handshaker, and a client and a worker that move as much as they can: other connections have their turns all the
same."""

import concurrent.futures
import os
import socket
import subprocess
import sys
import tempfile
import unittest

import broker as testlib
import echo_service

sys.path.append(os.path.join(testlib.SOURCE, "tests/bench"))
import subjects  # noqa: E402


class Fairness(unittest.TestCase):
    def bulk(self, kind, port):
        """A bench-load that works until the test ends it."""
        load = subprocess.Popen([testlib.program("tests/bench/bench-load"), kind, str(port), "--count", str(2**40)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for end in (load.stdin.close, load.stdout.close, load.wait, load.kill):
            self.addCleanup(end)
        self.assertEqual(load.stdout.readline(), b"ready\n")
        load.stdin.write(b"\n")
        load.stdin.flush()
        return load

    def test_others_beside_bulk(self):
        directory = self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-test-"))
        os.chmod(directory, 0o755)
        certificate = testlib.Certificate(directory)
        for kind in ("receive", "send"):
            # A worker of this kind has one connection at a time.
            with self.subTest(kind=kind), subjects.Broker(kind, certificate, "never", handshakers=1,
                                                          lines="count = 4") as service:
                bulk = self.bulk(kind, service.port)
                with subjects.Load(service, "handshake", count=20) as others:
                    others.go()
                self.assertIsNone(bulk.poll(), "it goes on")
                bulk.kill()

    def test_others_beside_a_client_hello_in_pieces(self):
        """RFC 8446 section 5.1: a message may be in any number of records."""
        hello = bytes([1]) + (131_000).to_bytes(3, "big") + bytes(131_000)  # the longest that OpenSSL takes is 131,396
        pieces = b"".join(b"\x16\x03\x01\x00\x01" + hello[i:i + 1] for i in range(len(hello)))
        service = self.enterContext(echo_service.EchoService({"echo": "never"}, handshakers=1))

        def attack():
            with socket.create_connection(("127.0.0.1", service.ports["echo"]), 60 * testlib.PATIENCE) as raw:
                raw.sendall(pieces)
                return raw.recv(100)

        def served_beside_it():
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                answer = pool.submit(attack)
                served = 0
                while not answer.done():
                    with service.connect():
                        served += 1
                self.assertEqual(answer.result()[:1], b"\x15", "an alert: it was all zeros")
            print(f"\n  {served} others had their handshakes meanwhile", flush=True)
            return served

        # Without turns one or two are served. The machine may delay the others by chance, but not five times.
        self.assertTrue(any(served_beside_it() > 5 for _ in range(5)))


if __name__ == "__main__":
    unittest.main()
