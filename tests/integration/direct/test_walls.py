# SPDX-License-Identifier: Apache-2.0
"""Attacks of one service's workers, with direct connections; natively they are in tests/isolation/test_walls_*.py."""

import errno
import fcntl
import os
import signal
import struct
import unittest

import broker as testlib
import echo_service
import takeover
import walls

EPOLL_CTL, EPOLL_CTL_ADD, EPOLLIN = 233, 1, 1
LIMIT = "/proc/sys/fs/epoll/max_user_watches"


class Attacks(walls.Walls):
    ktls = "require"

    def setUp(self):
        echo_service.require_ktls()

    def test_a_strict_worker_and_its_own_connection(self):
        self.start(own_worker=True)
        with self.under(self.attacker("clients", self.service.ports["attacked"])):
            self.wait_for_hang(times=2)

    def test_an_attached_worker_and_a_locked_socket(self):
        """Any process that looks at the locked socket waits in state D."""
        walls.require_silent_files()
        self.start()
        files = walls.SilentFiles("read")
        with self.under(files, self.attacker("lock", self.socket_path, files.path)):
            self.wait_for_hang()
            self.service.wait_for_log(r"cannot be ended, left behind role=handshaker\S* service=attacked")


@unittest.skipUnless(walls.GUEST, "changes how many descriptors all users of the machine may watch")
class Watches(unittest.TestCase):
    """The kernel counts the descriptors in event loops (epoll) for the user who made the event loop, and limits their number."""

    def setUp(self):
        with open(LIMIT, encoding="ascii") as file:
            self.addCleanup(self.allow, file.read())
        self.service = self.enterContext(walls.Service(attached=False, lines='user = "irc"\n'))
        self.context = self.service.context()
        self.handshake("other")

    @staticmethod
    def allow(count):
        with open(LIMIT, "w", encoding="ascii") as file:
            file.write(str(count))

    def handshakers(self, name):
        return [pid for role, pid in self.service.pids(name) if role.startswith("handshaker")]

    def handshaker(self, name):
        (pid,) = self.handshakers(name)
        return pid

    def handshake(self, name):
        server_name = "other.test" if name == "other" else "localhost"
        with self.service.connect(name, context=self.context, server_name=server_name, timeout=60) as tls:
            tls.sendall(b"PID\n")
            self.assertTrue(tls.recv(100))

    def replace(self, name):
        before = self.handshakers(name)
        os.kill(before[0], signal.SIGKILL)

        # Between two looks the old one may go, or the new one come.
        def replaced():
            now = self.handshakers(name)
            return now and now != before and self.service.service_status(name)["handshakers"] == 1

        testlib.wait_until(replaced, "another handshaker", 30)
        self.handshake(name)

    def test_a_handshaker_that_watches_all_it_can(self):
        pid = self.handshaker("attacked")
        (loop,) = [fd for fd, link in takeover.links(pid).items() if "eventpoll" in link]
        self.allow(700)
        added = result = 0
        with takeover.Taken(pid) as process:
            event = process.store(struct.pack("=IQ", EPOLLIN, 0))
            while result >= 0:
                copy = process.call(takeover.FCNTL, 8, fcntl.F_DUPFD_CLOEXEC, 20)
                result = copy if copy < 0 else process.call(EPOLL_CTL, loop, EPOLL_CTL_ADD, copy, event)
                added += result >= 0
            self.assertGreater(added, 500)
            self.assertEqual(result, -errno.ENOSPC, "by its own user's account")
            self.handshake("other")
            self.replace("other")
        self.handshake("attacked")
        self.assertEqual(self.service.stop(), 0)

    def test_a_supervisor_that_may_watch_no_more(self):
        """The supervisor looks at its descriptors every 50 ms instead, and goes on with everything."""
        self.allow(20)
        self.replace("other")
        self.service.wait_for_log("descriptors cannot be watched, looking every 50 ms instead")
        self.service.lines["other"] = 'alpn = ["h2"]'
        self.service.reload("in force .* started=other removed=-$")
        self.handshake("other")
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
