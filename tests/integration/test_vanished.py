# SPDX-License-Identifier: Apache-2.0
"""A client whose network is gone sends no FIN. The test has two network namespaces of its own and a cable between them, which it cuts."""

import os
import socket
import subprocess
import unittest

import broker as testlib
import echo_service
from network import CLONE_NEWNET, check, inside, ip, libc

OURS, THEIRS = "192.0.2.1", "192.0.2.2"


class Cable:
    """From this process' own network namespace, where `OURS` is, to one in which nothing runs but sockets that connect() makes."""

    def __enter__(self):
        check(libc.unshare(CLONE_NEWNET))
        ip("link", "set", "lo", "up")
        self._there = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        try:
            own = os.readlink("/proc/self/ns/net")
            testlib.wait_until(lambda: os.readlink(f"/proc/{self._there.pid}/ns/net") != own, "the other namespace")
            ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(self._there.pid))
            ip("address", "add", f"{OURS}/24", "dev", "here")
            ip("link", "set", "here", "up")
            inside(self._there.pid, lambda: ip("address", "add", f"{THEIRS}/24", "dev", "there"))
            inside(self._there.pid, lambda: ip("link", "set", "there", "up"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        self._there.kill()
        self._there.wait()

    def connect(self, port):
        return inside(self._there.pid, lambda: socket.create_connection((OURS, port), 30))

    @staticmethod
    def cut():
        ip("link", "set", "here", "down")


class Vanished(unittest.TestCase):
    def test_an_idle_client(self):
        cable = self.enterContext(Cable())
        service = self.enterContext(echo_service.EchoService(
            {"short": "never", "long": "never"}, hosts=(OURS, "127.0.0.1"), lines={"short": 'keepalive = "10s"'}))

        def relayed():
            return service.status()["counters"]["relay_active"]

        for count, port in enumerate(service.ports.values(), start=1):
            tls = self.enterContext(service.context().wrap_socket(cable.connect(port), server_hostname="localhost"))
            tls.sendall(b"WHO\n")
            tls.recv(4096)
            testlib.wait_until(lambda count=count: relayed() == count, "the connection")
        cable.cut()
        testlib.wait_until(lambda: relayed() == 1, "the end of one", timeout=60)
        self.assertEqual(relayed(), 1)


if __name__ == "__main__":
    testlib.main()
