# SPDX-License-Identifier: Apache-2.0
"""Attacks of a worker, and of processes of its user, on the supervisor: on a process while it is started, and by making the
supervisor start things again and again."""

import contextlib
import threading
import unittest

import broker as testlib
import walls


class Starting(walls.Walls):
    def test_a_worker_that_is_stopped_while_it_is_started(self):
        """Another process of the worker's user stops it between setresuid(2) and execve(2): the supervisor does not wait for
        it."""
        self.start(attached=False)
        (worker,) = [worker["pid"] for worker in self.service.service_status("attacked")["worker"]["running"]]
        with self.under(self.attacker("stop", worker, user=walls.WORKER.pw_uid)):
            self.service.wait_for_log("the worker cannot be started: the program was not executed within 2000 ms: somebody has "
                                      "stopped it.* service=attacked", timeout=120)  # it takes several tries


class Queue(walls.Walls):
    def test_requests_and_queue_are_shut_down_again_and_again(self):
        """Each time the service gets new ones, after longer and longer pauses."""
        self.start()
        with self.under(self.attacker("shut", self.socket_path)):
            seen = 0
            for _ in range(3):
                self.service.wait_for_log("a process of the service has shut the queue of its service down; it gets a new one service=attacked",
                                          start=seen)
                seen = len(self.service.log)


if __name__ == "__main__":
    unittest.main()
