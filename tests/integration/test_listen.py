# SPDX-License-Identifier: Apache-2.0
"""Addresses that are taken: by a program that listens there, by a connection whose socket does not share the address, or by
another service."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import unittest

import broker as testlib
import echo_service
import network
import takeover

REUSE = (socket.SOL_SOCKET, socket.SO_REUSEADDR)


class Kept:
    """A connection whose server socket does not share its address and port (its owner has switched SO_REUSEADDR off); nobody
    listens there."""

    def __init__(self, port):
        with socket.socket() as listener:
            listener.setsockopt(*REUSE, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
            self.client = socket.create_connection(("127.0.0.1", port))
            self.server, _ = listener.accept()
            self.server.setsockopt(*REUSE, 0)

    def __enter__(self):
        return self

    def end(self, time_wait=False):
        if self.server.fileno() < 0:
            return
        if not time_wait:
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.close()
        self.client.close()

    def __exit__(self, *unused):
        self.end()


class AtTheStart(unittest.TestCase):
    def service(self, **options):
        return echo_service.EchoService({"echo": "never", "other": "never"}, ports=self.ports, **options)

    def setUp(self):
        self.ports = {"echo": testlib.free_port(), "other": testlib.free_port()}

    def test_a_connection_that_does_not_share_it(self):
        """The other services serve, and this one serves as soon as it can."""
        with Kept(self.ports["echo"]) as kept, self.service() as service:
            service.wait_for_log(r'broker.toml:\d+:\d+: cannot listen on "127.0.0.1:\d+" yet')
            self.assertTrue(service.ask(service="other"))
            (status,) = [one for one in service.status()["services"] if one["name"] == "echo"]
            self.assertEqual(status["not_listening"], status["listen"])
            with self.assertRaises(OSError):
                service.connect()
            kept.end()
            testlib.wait_until(lambda: self.answers(service), "the address", 20)
            self.assertEqual(service.stop(), 0)

    def test_its_time_wait(self):
        kept = Kept(self.ports["echo"])
        kept.end(time_wait=True)
        with self.service() as service:
            service.wait_for_log("cannot listen on .* yet")
            self.assertTrue(service.ask(service="other"))

    def test_one_that_listens(self):
        """At boot it may end soon."""
        with socket.create_server(("127.0.0.1", self.ports["echo"])) as taken, self.service() as service:
            service.wait_for_log("cannot listen on .* yet: Address already in use; stop the program that listens there")
            self.assertTrue(service.ask(service="other"))
            taken.close()
            testlib.wait_until(lambda: self.answers(service), "the address", 20)
            service.wait_for_log("an address is not waited for any more service=echo listen=127.0.0.1")
            self.assertEqual(service.stop(), 0)

    @staticmethod
    def answers(service, name="echo"):
        with contextlib.suppress(OSError):
            return service.ask(service=name)
        return False


class Boot(unittest.TestCase):
    """Ports that others still have, and addresses that are not there yet. The service manager is told."""

    def setUp(self):
        self.port = testlib.free_port()

    @staticmethod
    def told(service, pattern):
        """The first message to the service manager in which the pattern is found, and those before it."""
        before = []
        while True:
            (message,) = service.notifications(1)
            if re.search(pattern, message):
                return message, before
            before.append(message)

    def waiting(self):
        return f"waiting for 127.0.0.1:{self.port}: Address already in use since 0 s"

    def service(self, services=("echo",), **options):
        ports = {name: testlib.free_port() for name in services} | {"echo": self.port}
        return echo_service.EchoService({name: "never" for name in services}, ports=ports, expect_ready=False, **options)

    def test_a_port_that_is_taken_for_a_while(self):
        with socket.create_server(("127.0.0.1", self.port)) as taken, self.service() as service:
            message, _ = self.told(service, "waiting")
            self.assertRegex(message, rf"^EXTEND_TIMEOUT_USEC=\d+\nSTATUS={self.waiting()}$")
            # The text says for how long, and each new text gives the start more time.
            message, before = self.told(service, "since 5 s")
            self.assertIn("EXTEND_TIMEOUT_USEC=", message)
            self.assertEqual([one for one in before if "READY=1" in one], [])
            self.assertEqual(service.log_text().count("yet: Address already in use"), 1)
            taken.close()
            message, _ = self.told(service, "READY=1")
            self.assertEqual(message, "READY=1\nSTATUS=serving")
            self.assertTrue(service.ask(timeout=20))
            self.assertEqual(service.stop(), 0)

    def test_other_services_serve(self):
        with socket.create_server(("127.0.0.1", self.port)) as taken, self.service(["echo", "other"]) as service:
            message, _ = self.told(service, "READY=1")
            self.assertEqual(message, f"READY=1\nSTATUS=serving; {self.waiting()}")
            self.assertTrue(service.ask(service="other"))
            taken.close()
            self.told(service, "^READY=1\nSTATUS=serving$")

    def test_a_stop_ends_it(self):
        with socket.create_server(("127.0.0.1", self.port)), self.service() as service:
            self.told(service, "waiting")
            self.assertEqual(service.stop(), 0)

    def test_one_that_comes_during_a_reload(self):
        """The reload began without it, and takes some seconds, since its key is behind a slow passphrase."""
        with socket.create_server(("127.0.0.1", self.port)) as taken, self.service(["echo", "other"]) as service:
            self.told(service, "READY=1")
            key = service.certificates[0].key
            subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", key + ".slow", "-passout", "pass:word", "-iter", "4000000"],
                           check=True, timeout=60 * testlib.PATIENCE)
            with open(key + ".word", "w", encoding="ascii") as file:
                file.write("word")
            start = len(service.log)
            service.write_config(service.text().replace(f'key = "{key}"', f'key = "{key}.slow"\npassphrase = "{key}.word"'))
            service.signal(signal.SIGHUP)
            service.wait_for_log("started role=inspector", start=start)
            taken.close()
            service.wait_for_log("an address is not waited for any more", start=start)
            service.wait_for_log("in force", start=start, timeout=60)
            self.assertTrue(service.ask(timeout=20))
            self.assertEqual(service.log_text().count("not waited for any more"), 1)
            last = [line for line in service.log if re.search("ready generation=.* service=echo ", line)][-1]
            self.assertIn(f"listen=127.0.0.1:{self.port}", last)

    def test_a_reload_does_not_end_it(self):
        with socket.create_server(("127.0.0.1", self.port)) as taken, self.service() as service:
            self.told(service, "waiting")
            service.reload("in force ")
            service.broker_lines = "max_relayed = 0"
            service.reload("reload failed")
            self.told(service, "STATUS=the last reload failed: .*max_relayed.*; waiting for 127.0.0.1")
            taken.close()
            self.told(service, "READY=1")
            self.assertTrue(service.ask(timeout=20))

    def test_a_service_on_demand(self):
        with socket.create_server(("127.0.0.1", self.port)) as taken, self.service(lines='start = "on-demand"') as service:
            self.told(service, "waiting")
            taken.close()
            self.told(service, "READY=1")
            self.assertTrue(service.ask(timeout=20))

    def test_a_check_does_not_wait(self):
        service = self.service()
        self.addCleanup(shutil.rmtree, service.directory)
        self.addCleanup(service.stop)
        with socket.create_server(("127.0.0.1", self.port)):
            ran = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--check", "--config", service.config_file],
                                 capture_output=True, text=True, check=False, timeout=60 * testlib.PATIENCE)
        self.assertEqual(ran.returncode, 0, ran.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "needs root for a network of its own")
    def test_addresses_that_come_later(self):
        """In a network namespace that has neither of the two."""
        with self.elsewhere() as service:
            message, _ = self.told(service, "waiting")
            self.assertRegex(message, r"waiting for 192.0.2.1:\d+: Cannot assign requested address since 0 s, \[2001:db8::1\]:")
            self.give(service, "192.0.2.1/24")
            message, before = self.told(service, "READY=1")
            self.assertRegex(message, "STATUS=serving; waiting for .*2001:db8::1")
            self.assertTrue(self.answer(service, "192.0.2.1"))
            self.give(service, "2001:db8::1/64", "nodad")
            self.told(service, "STATUS=serving$")
            self.assertTrue(self.answer(service, "2001:db8::1"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root for a network of its own")
    def test_freebind_does_not_wait(self):
        with self.elsewhere(lines="freebind = true") as service:
            message, before = self.told(service, "READY=1")
            self.assertEqual((message, before), ("READY=1\nSTATUS=serving", []))
            for address, host in (("192.0.2.1/24", "192.0.2.1"), ("2001:db8::1/64", "2001:db8::1")):
                self.give(service, address, *(["nodad"] if ":" in host else []))
                self.assertTrue(self.answer(service, host))

    def elsewhere(self, **options):
        service = self.service(hosts=("192.0.2.1", "[2001:db8::1]"), **options)
        service.launch_by(["unshare", "--net", "/bin/sh", "-c", 'ip link set lo up && exec "$0" "$@"'])
        return service

    @staticmethod
    def give(service, address, *words):
        network.inside(service.process.pid, lambda: network.ip("address", "add", address, "dev", "lo", *words))

    @staticmethod
    def answer(service, host):
        def ask():
            with contextlib.suppress(OSError):
                return service.ask(host=host)
            return None
        return testlib.wait_until(lambda: network.inside(service.process.pid, ask), f"answer at {host}", 20)


class AsUnderTheUnits(unittest.TestCase):
    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount")
    def test_at_the_start(self):
        """/proc is mounted as by ProcSubset=pid, which hides everything in it that is about the machine."""
        command = (f"mount -t proc -o subset=pid,hidepid=invisible proc /proc && exec {sys.executable} -m unittest "
                   "test_listen.AtTheStart")
        ran = subprocess.run(["unshare", "--mount", "sh", "-c", command], cwd=os.path.dirname(os.path.abspath(__file__)),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertIn("Ran 3 tests", ran.stdout)


class OverReloads(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never", "other": "never"}))

    def exchange(self):
        ports = self.service.ports
        ports["echo"], ports["other"] = ports["other"], ports["echo"]

    def test_a_new_address_that_is_kept(self):
        """The reload succeeds all the same, for the other services as well."""
        port = testlib.free_port()
        with Kept(port) as kept:
            self.service.ports["echo"] = port
            self.service.lines = {"echo": echo_service.SERVICE_LINES, "other": 'alpn = ["h2"]'}
            self.service.reload("in force .* started=echo,other removed=-$")
            self.assertTrue(self.service.ask(service="other"))
            self.service.wait_for_log("cannot listen on .* yet")
            kept.end()
            testlib.wait_until(lambda: AtTheStart.answers(self.service), "the address", 20)

    def test_from_a_wildcard_to_another_service(self):
        """The new address has the port of the other service's old address, but is another one than that wildcard."""
        self.service.hosts = ("0.0.0.0",)
        self.service.reload("in force .* started=echo,other removed=-$")
        for name in ("echo", "other"):
            self.assertTrue(self.service.ask(service=name))
        self.service.hosts = ("127.0.0.1",)
        self.exchange()
        self.service.reload("in force .* started=echo,other removed=-$")
        for name in ("echo", "other"):
            testlib.wait_until(lambda name=name: AtTheStart.answers(self.service, name), "the address", 20)

    def test_one_that_somebody_listens_on(self):
        ports = dict(self.service.ports)
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.service.ports["echo"] = other.getsockname()[1]
            start = len(self.service.log)
            self.service.write_config(self.service.text())
            self.service.signal(signal.SIGHUP)
            self.service.wait_for_log("cannot listen on .* in use; stop the program", start=start)
            self.service.wait_for_log("reload failed", start=start)
        self.service.ports.update(ports)
        self.assertTrue(self.service.ask())

    def test_one_that_another_service_keeps(self):
        """The other service's wildcard address already includes this address: that is a mistake, at a reload as at the start."""
        self.service.hosts = ("0.0.0.0",)
        self.service.reload("in force .* started=echo,other removed=-$")
        text = self.service.text().replace(f'"0.0.0.0:{self.service.ports["other"]}"', f'"127.0.0.1:{self.service.ports["echo"]}"')
        start = len(self.service.log)
        self.service.write_config(text)
        self.service.signal(signal.SIGHUP)
        self.service.wait_for_log('"127.0.0.1:.*" overlaps with "0.0.0.0:.*" at ', start=start)
        self.service.wait_for_log("reload failed", start=start)
        self.assertTrue(self.service.ask(service="other"))

    def test_nobody_can_come_beside_one_that_has_moved(self):
        """For the move two sockets share the address. Afterwards no further socket can share it, not even one of a program of the
        same user."""
        self.exchange()
        self.service.reload("in force .* started=echo,other removed=-$")
        for name, port in self.service.ports.items():
            with socket.socket() as program:
                program.setsockopt(*REUSE, 1)
                program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                with self.assertRaises(OSError):
                    program.bind(("127.0.0.1", port))
                    program.listen()
            for _ in range(20):
                self.assertTrue(self.service.ask(service=name))

    def test_one_that_has_moved_cannot_be_listened_on_again(self):
        """A process that has a copy of the socket from before cannot use it: a handshaker that was taken over could give a copy
        to a worker, which may call listen(2)."""
        copies = []
        for role, pid in {(process["role"], process["pid"]) for process in self.service.status()["processes"]}:
            if role.startswith("handshaker"):
                copies += list(self.listeners_of(pid))
        self.assertEqual(len(copies), 2)
        self.exchange()
        self.service.reload("in force .* started=echo,other removed=-$")
        for copy in copies:
            with copy:
                self.assertEqual(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 0)
                with self.assertRaises(OSError):
                    copy.listen()
        for name in ("echo", "other"):
            self.assertTrue(self.service.ask(service=name))

    @staticmethod
    def listeners_of(pid):
        for _, copy in takeover.copied_sockets(pid):
            if copy.family == socket.AF_INET and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield copy.dup()


if __name__ == "__main__":
    unittest.main()
