# SPDX-License-Identifier: Apache-2.0
"""Workers that are started on demand: the first connection starts one, there are as many as are needed, and they end when they
are idle; no connection is lost and none is cut."""

import concurrent.futures
import os
import random
import signal
import threading
import time
import unittest

import broker as testlib
import echo_service
import exec_service
import memory_client

ON_DEMAND = 'start = "on-demand"\nidle_timeout = "1s"\n'


class OnDemand(unittest.TestCase):
    def start(self, worker_lines=ON_DEMAND, **options):
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, worker_lines=worker_lines,
            broker_lines='max_handshakes_per_source = 1000\nhandshake_timeout = "60s"', **options))

    def workers(self):
        return self.service.processes().get("worker", [])

    def wait_until_gone(self):
        testlib.wait_until(lambda: not self.workers(), "end of the idle workers", 30)

    def pids(self, count):
        """The process ids of the workers that serve so many clients at once."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            answers = [pool.submit(self.service.ask, b"PID\n", timeout=60) for _ in range(count)]
            return {int(f.result()) for f in answers}

    def test_two_hundred_at_once_and_again(self):
        """No worker runs; 200 clients come at once and all are served; the workers become idle and end; then all of this once
        more."""
        self.start(ON_DEMAND + "count = 3\n")
        seen = set()
        for _ in range(2):
            self.assertEqual(self.workers(), [])
            pids = self.pids(200)
            self.assertLessEqual(len(pids), 3)
            self.assertFalse(pids & seen, "the idle ones are gone")
            seen |= pids
            self.wait_until_gone()
        self.assertFalse([line for line in self.service.log if "ended role=worker" in line and "status=0" not in line])

    def test_only_as_many_as_are_needed(self):
        """One worker is enough when clients come one after another and each is served at once."""
        self.start('start = "on-demand"\ncount = 4\n')
        slow = 0  # clients that may have waited so long that another worker was started
        for patience in [0.9] + 20 * [0.08]:  # the first one waits for a worker that starts
            began = time.monotonic()
            self.service.ask()
            slow += time.monotonic() - began > patience
        self.assertLessEqual(len(self.workers()), 1 + slow)

    def test_scaling(self):
        """The workers serve one connection each and for ever: one more is started for each connection that waits, up to
        `count`."""
        service = self.enterContext(exec_service.ExecService(
            {"cat": ["/bin/cat"]}, lines='start = "on-demand"\ncount = 3\nconnections = {max = 1}'))

        def workers():
            return len(service.processes().get("worker", []))

        def open_and_talk():
            client = self.enterContext(memory_client.Client(service, None, "cat"))
            client.send(b"x")
            self.assertEqual(client.receive(), b"x")
            return client

        clients = []
        for count in (1, 2, 3):
            self.assertEqual(workers(), count - 1)
            clients.append(open_and_talk())
            self.assertEqual(workers(), count)
        fourth = self.enterContext(memory_client.Client(service, None, "cat"))
        fourth.send(b"late")
        fourth.raw.settimeout(1)
        self.assertRaises(TimeoutError, fourth.receive)
        self.assertEqual(workers(), 3)
        fourth.raw.settimeout(30 * testlib.PATIENCE)
        clients[0].end()
        self.assertEqual(fourth.receive(), b"late", "it has waited in the queue")

    def test_a_connection_is_not_cut(self):
        """A worker that was told to end goes on with the connection that it serves; clients who come meanwhile get another
        worker."""
        self.start()
        held = self.enterContext(memory_client.Client(self.service))
        held.send(b"PID\n")
        first = int(held.receive())
        self.service.wait_for_log(rf"idle, told to end role=worker service=echo pid={first}", timeout=30)
        running = self.service.status()["services"][0]["worker"]["running"]
        self.assertEqual([(worker["pid"], worker["draining"]) for worker in running], [(first, True)])
        second = int(self.service.ask(b"PID\n"))
        self.assertNotEqual(second, first)
        data = random.Random(1).randbytes(2**20)
        held.send(b"ECHO %d\n" % len(data) + data[:1000])
        time.sleep(1)  # longer than a hasty end would take
        held.send(data[1000:])
        got = b""
        while len(got) < len(data):
            got += held.receive()
        self.assertEqual(got, data)
        held.end()
        self.assertEqual(held.receive(), b"", "an end, and no cut")
        self.wait_until_gone()

    def test_use_keeps_a_worker(self):
        self.start()
        pids = {int(self.service.ask(b"PID\n"))}
        pauses = 0  # pauses that were long enough to count as idle
        end = time.monotonic() + 4
        while time.monotonic() < end:
            began = time.monotonic()
            time.sleep(0.2)
            pids.add(int(self.service.ask(b"PID\n")))
            pauses += time.monotonic() - began > 0.9
        self.assertLessEqual(len(pids), 1 + pauses)

    def test_none_is_lost_at_the_edge(self):
        """Clients come just when the worker is told to end."""
        self.start()
        failed, served = [], set()

        def client():
            try:
                served.add(int(self.service.ask(b"PID\n", timeout=60)))
            except Exception as error:  # pylint: disable=broad-except
                failed.append(repr(error))

        for delay in range(10, 22):
            threads = [threading.Thread(target=client) for _ in range(20)]
            self.service.ask()
            time.sleep(delay / 10)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(failed, [])
        self.assertGreater(len(served), 1, "workers were told to end meanwhile")

    def test_a_draining_worker_does_not_hold_up_the_end(self):
        self.start()
        with self.service.connect() as held:
            held.sendall(b"SPIN\n")  # and does not notice SIGTERM
            self.service.wait_for_log("idle, told to end", timeout=30)
            (pid,) = self.workers()
            self.service.signal(signal.SIGQUIT)
            self.assertEqual(self.service.process.wait(20 * testlib.PATIENCE), 0)
            self.assertFalse(os.path.exists(f"/proc/{pid}"))


class Exec(unittest.TestCase):
    """When tlsbroker-exec(1) is told to end the programs that it has started go on."""

    def start(self, lines):
        self.service = self.enterContext(exec_service.ExecService({"cat": ["/bin/cat"]}, lines=lines))

    def client(self):
        client = self.enterContext(memory_client.Client(self.service, None, "cat"))
        self.echo(client)
        return client

    def echo(self, client):
        client.send(b"hello")
        self.assertEqual(client.receive(), b"hello")

    def finish(self, client):
        self.echo(client)
        client.end()
        self.assertEqual(client.receive(), b"", "an end, and no cut")

    def test_idle(self):
        self.start(ON_DEMAND)
        held = self.client()
        self.service.wait_for_log("idle, told to end", timeout=30)
        self.finish(self.client())
        self.finish(held)
        testlib.wait_until(lambda: "worker" not in self.service.processes(), "end of the idle workers", 30)

    @staticmethod
    def waits_for(pid, number):
        """Whether the signal is pending: it was sent, but the process has not taken it yet."""
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            (pending,) = [line.split()[1] for line in file if line.startswith("ShdPnd:")]
        return int(pending, 16) >> (number - 1) & 1

    def test_sigterm_and_again(self):
        self.start("")
        held = self.client()
        (worker,) = self.service.processes()["worker"]
        os.kill(worker, signal.SIGTERM)
        self.echo(held)
        # Two signals that are pending at the same time would count as one.
        testlib.wait_until(lambda: not self.waits_for(worker, signal.SIGTERM), "worker that has taken the signal")
        os.kill(worker, signal.SIGTERM)
        self.assertRaises(Exception, held.receive)
        self.service.wait_for_log(rf"ended role=worker .*pid={worker} status=0")

    def test_a_reload_that_changes_the_worker(self):
        self.start("")
        held = self.client()
        with open(self.service.config_file, encoding="ascii") as file:
            text = file.read()
        self.service.write_config(text.replace("'''/bin/cat'''", "'''/bin/cat''', '-'"))
        start = len(self.service.log)
        self.service.signal(signal.SIGHUP)
        self.service.wait_for_log("started role=worker", start=start)
        self.finish(self.client())
        self.finish(held)
        self.service.wait_for_log("ended role=worker .*status=0", start=start)


if __name__ == "__main__":
    unittest.main()
