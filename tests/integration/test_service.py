# SPDX-License-Identifier: Apache-2.0
"""The processes of a service: none until a client comes, one handshaker at rest, more while they are busy."""

import concurrent.futures
import os
import signal
import socket
import ssl
import time
import unittest

import broker as testlib
import echo_service

ON_DEMAND = echo_service.SERVICE_LINES + '\nstart = "on-demand"\nidle_timeout = "2s"'


def client_hello(context):
    """The first bytes of a handshake, which a server has to answer with a signature."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


class ManyAtOnce(unittest.TestCase):
    CLIENTS = 800

    def test_a_turn_of_seconds_is_not_taken_for_one_that_hangs(self):
        """The event loop handles in one turn all that is ready, which may take seconds; heartbeats are sent between connections,
        too, not only by the loop's timer."""
        service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, kinds=("rsa4096",),
            broker_lines='max_handshakes = 10000\nmax_handshakes_per_source = 10000\nhandshake_timeout = "60s"'))
        handshaker = service.pid_of("handshaker[0]", "echo")
        hello = client_hello(service.context())
        before = testlib.cpu_seconds(handshaker)
        clients = [self.enterContext(socket.create_connection(("127.0.0.1", service.ports["echo"]), timeout=60))
                   for _ in range(self.CLIENTS)]
        os.kill(handshaker, signal.SIGSTOP)  # so that all ClientHellos are there at once
        for client in clients:
            client.sendall(hello)
        os.kill(handshaker, signal.SIGCONT)
        start = time.monotonic()
        answered = sum(client.recv(1) == b"\x16" for client in clients)
        print(f"  {answered} answered in {time.monotonic() - start:.1f} s, "
              f"{testlib.cpu_seconds(handshaker) - before:.1f} s of a processor")
        self.assertEqual(answered, self.CLIENTS)
        self.assertEqual(service.pid_of("handshaker[0]", "echo"), handshaker)
        self.assertNotIn("hangs", service.log_text())


class OnDemand(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "never", "other": "never"}, lines={"echo": ON_DEMAND, "other": echo_service.SERVICE_LINES}))

    def state(self, name="echo"):
        return next(service for service in self.service.status()["services"] if service["name"] == name)

    def processes(self, name="echo"):
        """The processes of a service, without the logger of its worker."""
        return [process for process in self.service.status()["processes"]
                if process["service"] == name and process["role"] != "logger"]

    def test_no_process_until_a_connection_comes(self):
        self.assertEqual((self.processes(), self.state()["state"], self.state()["generation"]), ([], "waiting", None))
        start = time.monotonic()
        self.assertTrue(self.service.ask())
        print(f"  the first connection: {(time.monotonic() - start) * 1000:.0f} ms")
        self.assertEqual(len(self.processes()), 2)
        self.assertEqual(self.state()["state"], "serving")
        self.assertEqual(len(self.processes("other")), 2)

    def test_none_again_when_nobody_comes(self):
        for _ in range(2):
            self.assertTrue(self.service.ask())
            testlib.wait_until(lambda: not self.processes(), "the end of its processes", 15)
            self.assertEqual(self.state()["state"], "waiting")
        self.assertEqual(self.state()["counters"]["accepted"], 2, "counters stay")

    def test_a_relayed_connection_keeps_them(self):
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            time.sleep(3.5)
            self.assertEqual(len(self.processes()), 2)
            held.sendall(b"WHO\n")
            self.assertTrue(held.recv(1000))
        testlib.wait_until(lambda: not self.processes(), "the end of its processes", 15)

    def test_many_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            self.assertTrue(all(pool.map(lambda _: self.service.ask(timeout=20), range(20))))

    def test_a_ticket_from_before(self):
        context = self.service.context()
        with self.service.connect(context=context) as tls:
            tls.sendall(b"WHO\n")
            tls.recv(1000)
            session = tls.session
        testlib.wait_until(lambda: not self.processes(), "the end of its processes", 15)
        with self.service.connect(context=context, session=session) as tls:
            self.assertTrue(tls.session_reused)

    def test_reload_starts_nothing(self):
        self.service.certificates[0].__init__(self.service.home)
        self.service.reload("in force .* started=other removed=-$")
        self.assertEqual(self.processes(), [])
        self.assertTrue(self.service.ask())

    def test_reload_with_another_address(self):
        self.service.ports["echo"] = testlib.free_port()
        self.service.reload()
        self.assertTrue(self.service.ask())

    def test_a_key_that_does_not_match(self):
        """The fault is found when a client comes, and logged with its place in the configuration; the key is read again while the
        client waits."""
        other = testlib.Certificate(self.service.home, name="other.test")
        path = self.service.certificates[0].key
        with open(path, "rb") as file:
            good = file.read()
        with open(other.key, "rb") as file:
            bad = file.read()
        with open(path, "wb") as file:
            file.write(bad)
        start = len(self.service.log)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            waits = pool.submit(lambda: self.service.ask(timeout=20))
            self.service.wait_for_log(r"broker\.toml:\d+:\d+: certificate .*does not match", start=start)
            with open(path, "wb") as file:
                file.write(good)
            self.assertTrue(waits.result())
        self.assertTrue(self.service.ask(service="other"))

    def test_stop_while_it_waits(self):
        self.assertEqual(self.service.stop(), 0)


class Scaling(unittest.TestCase):
    def setUp(self):
        if os.cpu_count() < 2:
            self.skipTest("needs two processors")
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, lines=echo_service.SERVICE_LINES, kinds=("rsa",)))
        # There are as many processors as that, whatever echo_service writes by itself.
        self.service.write_config(self.service.text().replace("min = 1, max = 1", "min = 1, max = 2"))
        self.service.signal(signal.SIGHUP)
        self.service.wait_for_log("in force config=.* started=- ")

    def handshakers(self):
        return self.service.status()["services"][0]["handshakers"]

    def test_more_while_busy_and_fewer_again(self):
        self.assertEqual(self.handshakers(), 1)
        held = self.enterContext(self.service.connect())
        held.sendall(b"WHO\n")
        held.recv(1000)
        load = Flood(self.service.ports["echo"])
        try:
            testlib.wait_until(lambda: self.handshakers() == 2, "a second handshaker", 30)
        finally:
            load.end()
        testlib.wait_until(lambda: self.handshakers() == 1, "one less", 60)
        held.sendall(b"WHO\n")
        self.assertTrue(held.recv(1000), "its handshaker stays as long as it does")


class Flood:
    """Sends ClientHellos and nothing else: for each the handshaker makes keys and has them signed, and the client does nothing.
    They ask for P-384, which takes 25 times as long as X25519."""

    def __init__(self, port):
        hello = self.client_hello()
        self.ending = False

        def run():
            while not self.ending:
                try:
                    with socket.create_connection(("127.0.0.1", port), 5) as plain:
                        plain.sendall(hello)
                        plain.recv(1000)
                except OSError:
                    pass
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.runs = [self.pool.submit(run) for _ in range(8)]

    @staticmethod
    def client_hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl._create_unverified_context()
        context.set_ecdh_curve("secp384r1")
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()

    def end(self):
        self.ending = True
        self.pool.shutdown()


if __name__ == "__main__":
    unittest.main()
