# SPDX-License-Identifier: Apache-2.0
"""The queue stands in for a listening socket: idle workers take what waits, a full one pushes back on the clients, and nothing is
lost while workers die and are started again."""

import concurrent.futures
import contextlib
import json
import os
import signal
import ssl
import time
import unittest

import broker as testlib
import echo_service


class Queue(unittest.TestCase):
    def start(self, lines="", worker_lines="", **options):
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, lines=lines, worker_lines=worker_lines, **options))

    def workers(self):
        return self.service.processes().get("worker", [])

    def wait_for_workers(self, count):
        testlib.wait_until(lambda: len(self.workers()) == count, f"{count} workers")

    def signal_workers(self, number):
        for pid in self.workers():
            os.kill(pid, number)

    def ask_many(self, count, pool):
        return [pool.submit(self.service.ask, b"PID\n", timeout=60) for _ in range(count)]

    def leave(self):
        """A client that says that it has said everything, and goes."""
        with self.service.connect() as tls:
            tls.sendall(b"WHO\n")
            tls.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()

    def wait_for_waiting(self, count):
        testlib.wait_until(lambda: self.service.status()["services"][0]["queue"]["waiting"] == count, f"{count} in the queue")

    def test_clients_that_have_left_hold_up_no_stop(self):
        """No worker takes their connections. One that comes back serves the client who is still there."""
        self.start(broker_lines=echo_service.BROKER_LINES + '\ndrain_timeout = "1h"')
        self.wait_for_workers(1)
        self.signal_workers(signal.SIGSTOP)
        self.addCleanup(self.signal_workers, signal.SIGCONT)
        for _ in range(3):
            self.leave()
        self.wait_for_waiting(3)
        with self.service.connect() as tls:
            tls.sendall(b"PID\n")
            self.wait_for_waiting(4)
            (worker,) = self.workers()
            self.service.signal(signal.SIGTERM)
            self.service.wait_for_log("no worker takes the connections .* dropped service=echo waiting=4", timeout=30)
            self.service.wait_for_log("no worker takes the connections .* dropped service=echo waiting=1", timeout=30)
            self.assertIsNone(self.service.process.poll())
            self.signal_workers(signal.SIGCONT)
            self.assertEqual(int(tls.makefile("rb").readline()), worker)
        self.assertEqual(self.service.process.wait(30 * testlib.PATIENCE), 0)

    def test_a_worker_that_never_takes_any_holds_up_no_stop(self):
        self.start(broker_lines=echo_service.BROKER_LINES + '\ndrain_timeout = "1h"', worker_lines='start = "on-demand"')
        self.service.worker_exit(1)
        self.leave()
        self.service.wait_for_log("ended role=worker .*status=1")
        self.service.signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(30 * testlib.PATIENCE), 0)

    def test_all_workers_take_connections(self):
        self.start(worker_lines="count = 4")
        self.wait_for_workers(4)
        self.service.ask()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = {int(f.result()) for f in self.ask_many(200, pool)}
        self.assertEqual(answers, set(self.workers()))

    def in_backlog(self):
        """How many connections wait for accept(2): rx_queue of the listener in /proc/net/tcp."""
        with open("/proc/net/tcp", encoding="ascii") as file:
            lines = [line.split() for line in file if f":{self.service.ports['echo']:04X} 00000000:0000 0A" in line]
        return int(lines[0][4].partition(":")[2], 16)

    def held_back(self):
        """Whether a connection waits in the backlog, and does so for longer than a moment."""
        if not self.in_backlog():
            return False
        time.sleep(1)
        return self.in_backlog() > 0

    def handed_off(self):
        return sum(" mode=relay" in line for line in self.service.log)

    def test_a_full_queue_waits_and_loses_nothing(self):
        """The queue has 8 places, and no worker takes anything: when it is full, clients wait in the TCP backlog. 300 more wait
        there, too; then all are served."""
        self.start(lines="backlog = 8", broker_lines='handshake_timeout = "60s"\nmax_handshakes_per_source = 1000')
        self.service.ask()
        self.signal_workers(signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(400) as pool:
            answers = []
            while not self.held_back():
                self.assertLess(len(answers), 50, "the queue pushes back")
                before = self.handed_off()
                answers += self.ask_many(1, pool)
                testlib.wait_until(lambda: self.handed_off() > before or self.in_backlog(), "the client served or waiting")
            full = self.handed_off()
            answers += self.ask_many(300, pool)
            testlib.wait_until(lambda: self.in_backlog() >= 300, "300 in the backlog")
            self.assertEqual(self.handed_off(), full)
            self.assertFalse(any(f.done() for f in answers))
            self.signal_workers(signal.SIGCONT)
            self.assertTrue(all(f.result() for f in answers))

    def test_killed_worker_with_fifty_waiting(self):
        self.start()
        self.service.ask()
        first = self.workers()
        self.signal_workers(signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = self.ask_many(50, pool)
            testlib.wait_until(lambda: sum(" mode=relay" in line for line in self.service.log) == 51, "50 that wait")
            os.kill(first[0], signal.SIGKILL)
            served_by = {int(f.result()) for f in answers}
        self.assertEqual(len(served_by), 1)
        self.assertNotEqual(served_by, set(first))

    def test_on_demand(self):
        self.start(worker_lines='start = "on-demand"')
        self.assertEqual(self.workers(), [])
        pid = int(self.service.ask(b"PID\n"))
        self.assertEqual(self.workers(), [pid])
        self.assertEqual(int(self.service.ask(b"PID\n")), pid)

    def test_a_worker_that_ends_at_once_is_started_again_with_pauses(self):
        self.start()
        self.service.ask()
        self.service.worker_exit(3)
        start = len(self.service.log)
        self.signal_workers(signal.SIGKILL)

        def ends():
            return sum("ended role=worker" in line and "status=3" in line for line in self.service.log[start:])

        testlib.wait_until(lambda: ends() > 2, "third end of a worker")
        time.sleep(2)
        self.assertLess(ends(), 30, "it does not spin")
        self.service.worker_exit(None)
        self.assertTrue(self.service.ask(timeout=60))

    def test_a_confined_worker_cannot_copy_what_others_are_to_get(self):
        for profile in ("default", "strict"):
            with echo_service.EchoService({"echo": "never"}, worker_lines=f'profile = "{profile}"') as service:
                self.assertEqual(service.ask(b"PEEK\n"), b"EPERM\n", profile)

    def test_a_worker_that_shuts_the_queue_down_is_said(self):
        self.start()
        self.service.ask(b"SHUTDOWN-QUEUE\n")
        self.service.wait_for_log("a worker has shut the queue of its service down")
        self.service.reload()
        self.assertTrue(json.loads(self.service.ask()))


if __name__ == "__main__":
    unittest.main()
