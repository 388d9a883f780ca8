# SPDX-License-Identifier: Apache-2.0
"""Processes that die, are replaced, or are told to end: what goes on, what is cut, and that nothing is left."""

import concurrent.futures
import json
import os
import signal
import socket
import ssl
import statistics
import threading
import time
import unittest

import broker as testlib
import echo_service


def memory(pid):
    """The private memory of a process, in kilobytes."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def sleeps(pid):
    """How often the process has begun to wait for something."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))


class Processes(unittest.TestCase):
    def start(self, **options):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}, **options))

    def shown(self):
        with self.service.connect(context=self.any_certificate()) as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(True))

    @staticmethod
    def any_certificate():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def load(self):
        """Starts clients that go on until the returned function is called; that function returns how many were served."""
        stop, served = threading.Event(), []
        context = self.any_certificate()

        def run():
            count = 0
            while not stop.is_set():
                self.assertTrue(json.loads(self.service.ask(context=context)))
                count += 1
            return count

        pool = concurrent.futures.ThreadPoolExecutor(4)
        runs = [pool.submit(run) for _ in range(4)]

        def finish():
            stop.set()
            with pool:
                served.extend(f.result() for f in runs)
            return sum(served)
        return finish

    def test_a_connection_wakes_one_handshaker(self):
        """A second one may still be busy with the end of the last connection, but not all may wake up. Heartbeats wake them as
        well; how often is measured while nobody connects for as long."""
        self.start(handshakers=8)
        handshakers = self.service.processes()["handshaker"]

        def woken_by(what):
            before = [sleeps(pid) for pid in handshakers]
            what()
            return sum(sleeps(pid) > count for pid, count in zip(handshakers, before))

        with_one, without = [], []
        for _ in range(20):
            begun = time.monotonic()
            with_one.append(woken_by(self.service.ask))
            took = time.monotonic() - begun
            without.append(woken_by(lambda took=took: time.sleep(took)))
        more = statistics.median(with_one) - statistics.median(without)
        self.assertLessEqual(more, 2, (with_one, without))

    def test_killed_keyholder(self):
        self.start()
        held = self.service.connect()
        self.addCleanup(held.close)
        held.sendall(b"WHO\n")
        held.recv(1000)
        start = len(self.service.log)
        os.kill(self.service.processes()["keyholder"][0], signal.SIGKILL)
        self.service.wait_for_log("ended role=keyholder .*signal=9", start=start)
        self.service.wait_for_log("ready generation=2", start=start, timeout=20)
        self.assertTrue(self.service.ask())
        held.sendall(b"WHO\n")
        self.assertTrue(held.recv(1000), "a relayed connection stays with its handshaker until that is drained")

    def test_killed_handshaker(self):
        """The handshaker is replaced, and the others go on."""
        self.start(handshakers=2)
        start = len(self.service.log)
        victim, other = self.service.processes()["handshaker"]
        os.kill(victim, signal.SIGKILL)
        self.service.wait_for_log(rf"ended role=handshaker.* pid={victim} signal=9", start=start)
        self.service.wait_for_log(r"started role=handshaker\[2\] service=echo generation=1", start=start, timeout=20)
        self.assertTrue(self.service.ask())
        self.assertIn(other, self.service.processes()["handshaker"])
        self.assertEqual(len(self.service.processes()["handshaker"]), 2)

    def test_killed_in_a_handshake(self):
        self.start(handshakers=1, broker_lines='handshake_timeout = "5s"')
        with socket.create_connection(("127.0.0.1", self.service.ports["echo"])) as plain:
            plain.sendall(b"\x16\x03\x01\x02\x00\x01")
            os.kill(self.service.processes()["handshaker"][0], signal.SIGKILL)
            plain.settimeout(10 * testlib.PATIENCE)
            try:
                self.assertEqual(plain.recv(100), b"")
            except ConnectionResetError:
                pass
        self.assertTrue(self.service.ask(timeout=30))

    def test_children_end_with_the_supervisor(self):
        self.start()
        self.service.ask()
        processes = self.service.processes()
        os.kill(processes["supervisor"][0], signal.SIGKILL)
        mine = [pid for role in ("keyholder", "handshaker") for pid in processes[role]]
        testlib.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in mine), "end of the children")
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{processes['worker'][0]}"), "the worker, at its queue's end")

    def test_reload_under_load(self):
        self.start()
        old = self.shown()
        finish = self.load()
        for certificate in self.service.certificates:
            certificate.__init__(self.service.home)
        self.service.reload()
        # The old generation stops accepting when the new one is ready, and needs a moment for that.
        testlib.wait_until(lambda: self.shown() != old, "the new certificate")
        for _ in range(3):
            self.service.reload()
        self.assertGreater(finish(), 0)

    def test_bad_reloads_change_nothing(self):
        self.start()
        old, good = self.shown(), self.service.text()
        key = self.service.certificates[0].key
        other = testlib.Certificate(self.service.home, name="other.test")
        finish = self.load()
        for text, complaint in (
                (good + "\nnonsense", r"broker\.toml:\d+:\d+: "),
                (good.replace(key, "/nowhere"), r'broker\.toml:\d+:\d+: "/nowhere" .*No such file'),
                (good.replace(key, other.key), r"broker\.toml:\d+:\d+: .*(match|belong)"),
                (good.replace('ktls = "never"', 'ktls = "nevr"'), r"broker\.toml:\d+:\d+: .*never"),
                (good.replace("handshakers", "handshaker"), r'broker\.toml:\d+:\d+: .*"?handshakers')):
            with self.subTest(complaint):
                start = len(self.service.log)
                self.service.write_config(text)
                self.service.signal(signal.SIGHUP)
                self.service.wait_for_log(complaint, start=start)
                self.service.wait_for_log("reload failed", start=start, timeout=20)
        self.assertEqual(self.shown(), old)
        self.assertGreater(finish(), 0)

    def test_term_lets_connections_finish(self):
        self.start()
        run_dir = os.path.join(self.service.directory, "run")
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            start = len(self.service.log)
            self.service.signal(signal.SIGTERM)
            self.service.wait_for_log("stopping", start=start)
            refused = testlib.wait_until(self.is_refused, "an end of accepting")
            self.assertTrue(refused)
            held.sendall(b"ECHO 4\nlast")
            self.assertEqual(held.recv(100), b"last")
            pids = [pid for role in self.service.processes().values() for pid in role]
        self.assertEqual(self.service.process.wait(20 * testlib.PATIENCE), 0)
        self.assertFalse([pid for pid in pids if os.path.exists(f"/proc/{pid}")])
        self.assertFalse([name for name in os.listdir(run_dir) if name != "lock"])

    def is_refused(self):
        try:
            socket.create_connection(("127.0.0.1", self.service.ports["echo"])).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True  # reset: the connection was in the backlog of a listener that was closed
        return False

    def test_the_drain_has_an_end(self):
        self.start(broker_lines='drain_timeout = "1s"')
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            self.service.signal(signal.SIGTERM)
            self.assertEqual(self.service.process.wait(20 * testlib.PATIENCE), 0)

    def test_quit_is_now(self):
        self.start()
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            self.service.signal(signal.SIGQUIT)
            self.assertEqual(self.service.process.wait(5 * testlib.PATIENCE), 0)

    def test_states_for_the_service_manager(self):
        self.start()
        self.service.reload()
        good = self.service.notifications(2)
        self.assertTrue(good[0].startswith("RELOADING=1\nMONOTONIC_USEC="), good)
        self.assertIn("READY=1", good[1])
        self.service.write_config("nonsense")
        self.service.signal(signal.SIGHUP)
        bad = self.service.notifications(2)
        self.assertIn("RELOADING=1", bad[0])
        self.assertRegex(bad[1], r"READY=1\nSTATUS=.*failed|STATUS=.*failed\nREADY=1")
        self.service.signal(signal.SIGTERM)
        self.assertIn("STOPPING=1", self.service.notifications(1)[0])

    def failing(self):
        with socket.create_connection(("127.0.0.1", self.service.ports["echo"])) as plain:
            plain.sendall(b"nonsense")

    def test_nothing_is_left_of_connections(self):
        self.start()
        pids = [pid for role, pids in self.service.processes().items() if role != "worker" for pid in pids]

        def round_of(count):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                for future in [pool.submit(self.service.ask) for _ in range(count)]:
                    future.result()
                for future in [pool.submit(self.failing) for _ in range(count // 5)]:
                    future.result()

        round_of(200)
        # What leaks grows each time; that a heap or a stack becomes larger once is no leak.
        for _ in range(3):
            before = {pid: (fds(pid), memory(pid)) for pid in pids}
            round_of(500)
            testlib.wait_until(lambda: all(fds(pid) <= before[pid][0] for pid in pids), "descriptors as before")
            grown = {pid: memory(pid) - before[pid][1] for pid in pids}
            print("  KiB more after 500 more connections:", *grown.values())
            # AddressSanitizer keeps what was freed.
            if testlib.sanitized() or max(grown.values()) < 1024:
                return
        self.fail(f"memory grows: {grown}")


if __name__ == "__main__":
    unittest.main()
