# SPDX-License-Identifier: Apache-2.0
"""Attacks with a file system of the attacker's own: a process that closes a file of it, or waits for somebody who waits for a
page of it, is in state D, and not even SIGKILL ends that. Such a process is left behind, and the service goes on with others."""

import contextlib
import os
import re
import signal
import unittest

import broker as testlib
import walls

MAX_LEFT_BEHIND = 8  # ServiceBroker::kMaxLeftBehind


class Files(walls.Walls):
    stopped = False

    @classmethod
    def setUpClass(cls):
        walls.require_silent_files()

    def wait_for_one_left_behind(self):
        self.wait_for_hang()
        line = self.service.wait_for_log(r"cannot be ended, left behind role=handshaker\S* service=attacked .*pid=(\d+)")
        self.assertGreaterEqual(self.service.service_status("attacked")["left_behind"], 1)
        (state,) = [process for process in self.service.status()["processes"] if process["pid"] == int(line[1])]
        self.assertEqual((state["state"], state["service"]), ("left behind", "attacked"))
        self.assertGreater(state["silent_ms"], 1500)

    def recovers(self):
        testlib.wait_until(lambda: self.service.service_status("attacked")["left_behind"] == 0, "end of what was left")
        if self.stopped:
            self.service.wait_for_log("the service goes on: processes that could not be ended have ended service=attacked")
            self.service.wait_for_log("ready generation=2 service=attacked")
        super().recovers()

    def test_a_request_with_a_file_whose_close_waits(self):
        self.start()
        files = walls.SilentFiles("flush")
        with self.under(files, self.attacker("file", self.socket_path, files.path)):
            self.wait_for_one_left_behind()

    def test_the_end_of_a_relayed_connection_with_such_a_file(self):
        self.start()
        files = walls.SilentFiles("flush")
        with self.under(files, self.attacker("end", self.socket_path, files.path, self.service.ports["attacked"])):
            self.wait_for_one_left_behind()

    def test_a_socket_that_is_locked_by_a_page_that_never_comes(self):
        self.start()
        files = walls.SilentFiles("read")
        with self.under(files, self.attacker("lock", self.socket_path, files.path)):
            self.wait_for_one_left_behind()

    def test_too_many_left_behind_stop_the_service(self):
        """They stop only this service; even a reload still works. When these processes are gone the service goes on, with the
        configuration that is in force then."""
        self.start(handshakers=MAX_LEFT_BEHIND)
        files = walls.SilentFiles("read")
        with self.under(files, self.attacker("lock", self.socket_path, files.path)):
            self.service.wait_for_log(r"stopped: too many of its processes .*service=attacked left_behind=\d+", timeout=30)
            status = self.service.service_status("attacked")
            self.assertEqual(status["state"], "stopped")
            self.assertGreaterEqual(status["left_behind"], MAX_LEFT_BEHIND)
            self.stopped = True
            self.service.lines["attacked"] += 'alpn = ["http/1.1"]\n'
            self.service.reload("in force")

    def test_the_broker_stops_beside_one_that_is_left_behind(self):
        self.start()
        with walls.SilentFiles("read") as files, self.attacker("lock", self.socket_path, files.path):
            self.wait_for_one_left_behind()
            self.observer.end()
            self.service.signal(signal.SIGTERM)
            self.assertEqual(self.service.process.wait(20 * walls.SLOW), 0)
            files.process.kill()

    def test_the_broker_stops_beside_such_a_worker(self):
        """The worker reads a file of its own file system, which never answers."""
        with walls.SilentFiles("read") as files:
            service = self.enterContext(walls.Service(attached=False))
            worker = (f'command = ["/usr/bin/python3", "-S", "-c", "open(\'{files.path}\').read()"]\n'
                      f'user = "{walls.ATTACKER.pw_name}"\nread_only = ["{files.directory}"]\n')
            text = re.sub(r"(\[service\.attacked\.worker\]\n)(?:.+\n)*", lambda match: match[1] + worker, service.text())
            service.write_config(text)
            service.signal(signal.SIGHUP)
            pid = testlib.wait_until(lambda: waits_for_ever(service), "a worker that waits for its file")
            service.signal(signal.SIGTERM)
            self.assertEqual(service.process.wait(30 * walls.SLOW), 0)
            service.wait_for_log(f"cannot be ended, left behind role=worker service=attacked pid={pid}")
            files.process.kill()
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def waits_for_ever(service):
    """The worker that waits for its file; from the first signal on it is in state D."""
    for worker in service.service_status("attacked")["worker"]["running"]:
        with contextlib.suppress(OSError), open(f"/proc/{worker['pid']}/wchan", encoding="ascii") as file:
            if "wait_answer" in file.read():
                return worker["pid"]
    return None


if __name__ == "__main__":
    unittest.main()
