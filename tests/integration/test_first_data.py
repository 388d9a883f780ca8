# SPDX-License-Identifier: Apache-2.0
"""A client's first data follows its Finished at once, also if the client collects small writes (no TCP_NODELAY). The test has a
network namespace of its own, whose counters nobody else changes."""

import ctypes
import os
import subprocess
import unittest

import echo_service

CLONE_NEWNET = 0x40000000
CONNECTIONS = 20


def late_acknowledgements():
    """How many there were in this namespace because a timer ran out: 40 ms at the least, TCP_DELACK_MIN in Linux."""
    with open("/proc/self/net/netstat", encoding="ascii") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(values[names.index("DelayedACKs")])


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class FirstData(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        lines = {f"tickets-{count}": f"tickets = {count}" for count in range(3)}
        cls.service = cls.enterClassContext(echo_service.EchoService(dict.fromkeys(lines, "prefer"), lines=lines))

    def test_does_not_wait_for_an_acknowledgement(self):
        for name in self.service.ports:
            with self.subTest(name):
                before = late_acknowledgements()
                for _ in range(CONNECTIONS):
                    with self.service.connect(name) as tls:
                        tls.sendall(b"ECHO 4\nping")
                        self.assertEqual(tls.recv(100), b"ping")
                # All were; on a busy machine some are, because a process is as late as the timer.
                self.assertLess(late_acknowledgements() - before, CONNECTIONS)


if __name__ == "__main__":
    unittest.main()
