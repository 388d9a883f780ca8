# SPDX-License-Identifier: Apache-2.0
"""Direct connections need nobody: every process of the broker is killed in the middle of 100 transfers, and all finish.
A killed worker's waiting connections are served by the next one."""

import concurrent.futures
import contextlib
import hashlib
import os
import signal
import threading
import unittest

import broker as testlib
import echo_service

CLIENTS = 100
PIECE = 64 * 1024
PIECES = 4  # each way, before and after the kill


class Kill(unittest.TestCase):
    def setUp(self):
        echo_service.require_ktls()

    def start(self, **options):
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "require"}, broker_lines='handshake_timeout = "60s"\nmax_handshakes_per_source = 1000', **options))
        self.context = self.service.context()

    def transfer(self, half_way, go_on):
        """Sends data to and fro, stops in the middle of a piece, and goes on with the rest; the end has to be an authenticated
        one."""
        data = os.urandom(2 * PIECES * PIECE)
        received = bytearray()
        with self.service.connect(context=self.context, timeout=120) as tls:
            tls.sendall(b"ECHO %d\n" % len(data))
            for i in range(2 * PIECES):
                piece = data[i * PIECE:(i + 1) * PIECE]
                tls.sendall(piece[:PIECE // 2])
                if i == PIECES:
                    half_way.release()
                    go_on.wait(120 * testlib.PATIENCE)
                tls.sendall(piece[PIECE // 2:])
                while len(received) < (i + 1) * PIECE:
                    received += tls.recv(PIECE)
            tls.sendall(b"END\n")
            self.assertEqual(testlib.ending(tls.recv), "end")
        return hashlib.sha256(received).digest() == hashlib.sha256(data).digest()

    def test_every_process_of_the_broker(self):
        self.start()
        half_way, go_on = threading.Semaphore(0), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool, contextlib.ExitStack() as in_any_case:
            in_any_case.callback(go_on.set)
            runs = [pool.submit(self.transfer, half_way, go_on) for _ in range(CLIENTS)]
            for _ in runs:
                while not half_way.acquire(timeout=1):
                    for failed in filter(concurrent.futures.Future.done, runs):
                        self.assertIsNone(failed.exception(), "\n".join(
                            line for line in self.service.log if ": connection conn=" not in line))
            processes = self.service.processes()
            victims = [pid for role, pids in processes.items() if role != "worker" for pid in pids]
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):  # the supervisor is killed first, and the others end with it
                    os.kill(pid, signal.SIGKILL)
            testlib.wait_until(lambda: not any(alive(pid) for pid in victims), "the end of the broker")
            go_on.set()
            right = sum(run.result() for run in runs)
        print(f"\n  {len(victims)} processes killed, {right} of {CLIENTS} transfers finished with the right hash")
        self.assertEqual(right, CLIENTS)
        testlib.wait_until(lambda: not alive(processes["worker"][0]), "the worker, at its queue's end")

    def test_a_worker_with_fifty_waiting(self):
        self.start()
        first = int(self.service.ask(b"PID\n", context=self.context))
        os.kill(first, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = [pool.submit(self.service.ask, b"PID\n", context=self.context, timeout=120) for _ in range(50)]
            testlib.wait_until(lambda: sum(" mode=direct" in line for line in self.service.log) == 51, "50 that wait", 60)
            os.kill(first, signal.SIGKILL)
            served_by = {int(answer.result()) for answer in answers}
        self.assertEqual(len(served_by), 1)
        self.assertNotEqual(served_by, {first})


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the process may end between open and read
        return False


if __name__ == "__main__":
    unittest.main()
