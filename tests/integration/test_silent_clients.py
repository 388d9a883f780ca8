# SPDX-License-Identifier: Apache-2.0
"""1,000 clients that connect and stay silent, from many addresses: honest clients are served meanwhile. The test prints how long
that takes, and tests/bench measures it."""

import socket
import statistics
import time
import unittest

import broker as testlib
import echo_service

ALONE = True  # prints how long things take
SILENT = 1000
HONEST = 100


class SilentClients(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, broker_lines='handshake_timeout = "10s"'))

    def handshakes(self):
        context, times = self.service.context(), []
        for _ in range(HONEST):
            began = time.perf_counter()
            with self.service.connect(context=context):
                times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    def test_honest_ones_are_served(self):
        self.handshakes()
        before = self.handshakes()
        address = ("127.0.0.1", self.service.ports["echo"])
        silent = [socket.create_connection(address, source_address=(f"127.0.{i // 200 + 2}.{i % 200 + 1}", 0))
                  for i in range(SILENT)]
        meanwhile = self.handshakes()
        print(f"\n  median handshake: {before:.2f} ms before, {meanwhile:.2f} ms with {SILENT} silent clients,"
              f" ratio {meanwhile / before:.2f}")
        for one in silent:
            one.settimeout(30 * testlib.PATIENCE)
            self.assertEqual(one.recv(1), b"", "closed at the time limit")
            one.close()


if __name__ == "__main__":
    unittest.main()
