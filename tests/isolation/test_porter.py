# SPDX-License-Identifier: Apache-2.0
"""Users of this machine attack the sockets where they may connect: a packet with a descriptor whose close(2) takes for ever holds
up only the porter that closes it."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import broker as testlib
import takeover
import walls

TESTLIB = os.path.join(testlib.SOURCE, "tests/testlib")
NOBODY, WWW = pwd.getpwnam("nobody"), pwd.getpwnam("www-data")
WATCHDOG = 2  # seconds
CONFIG = """
[certificate.one]
chain = "{chain}"
key = "{key}"
[service.attached]
listen = ["127.0.0.1:{port}"]
certificates = ["one"]
allow_users = ["www-data"]
[service.second]
listen = ["127.0.0.1:{second}"]
certificates = ["one"]
allow_users = ["www-data"]
[service.other]
listen = ["127.0.0.1:{other}"]
certificates = ["one"]
[service.other.worker]
command = ["{worker}"]
user = "daemon"
"""


class Attacker:
    """Runs lingering.py and keeps the lines that it prints."""

    def __init__(self, path, user):
        self.process = subprocess.Popen([sys.executable, f"{TESTLIB}/lingering.py", path, str(user.pw_uid)],
                                        stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(map(str.strip, self.process.stdout)), daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()


class Worker:
    """Runs attached_worker.py, which becomes www-data, attaches, and answers with the service's name."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, f"{TESTLIB}/attached_worker.py", path, str(WWW.pw_uid), str(WWW.pw_gid)],
            stdout=subprocess.DEVNULL, env=dict(os.environ, PYTHONPATH=TESTLIB, **testlib.sanitizer_environment()))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()


class Watch:
    """Measures, as a context manager, the longest time that the broker takes to answer `status`, that its watchdog is silent, and
    that a handshake with another service takes."""

    def __init__(self, broker, handshake):
        self.broker, self.handshake = broker, handshake
        self.status = self.silence = self.handshakes = 0
        self.over = threading.Event()

    def measure_status(self):
        while not self.over.wait(0.1):
            start = time.monotonic()
            self.broker.status()
            self.status = max(self.status, time.monotonic() - start)

    def measure_handshakes(self):
        while not self.over.wait(0.1):
            start = time.monotonic()
            self.handshake()
            self.handshakes = max(self.handshakes, time.monotonic() - start)

    def measure_silence(self):
        last = time.monotonic()
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                if b"WATCHDOG=1" in self.broker.notifications(1, 0.1)[0].encode():
                    last = time.monotonic()
            self.silence = max(self.silence, time.monotonic() - last)

    def __enter__(self):
        self.errors = []

        def run(measure):
            try:
                measure()
            except Exception as error:  # reported when the context is left
                self.errors.append(error)

        self.threads = [threading.Thread(target=run, args=[each])
                        for each in (self.measure_status, self.measure_handshakes, self.measure_silence)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        for thread in self.threads:
            thread.join(60 * testlib.PATIENCE)
        if self.errors:
            raise self.errors[0]


@unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else, and to mount")
class Porter(unittest.TestCase):
    # On every kernel this starts the broker as on a kernel that cannot refuse descriptors.
    launcher = [sys.executable, f"{TESTLIB}/without_passrights.py"]

    def start(self, lists=True):
        directory = tempfile.mkdtemp(prefix="tlsbroker-porter-")
        self.addCleanup(os.rmdir, directory)
        if not lists:
            subprocess.run(["mount", "-t", "ramfs", "none", directory], check=True, timeout=30)
            self.addCleanup(subprocess.run, ["umount", "--lazy", directory], check=True, timeout=30)
        else:
            self.addCleanup(lambda: [shutil.rmtree(e) if e.is_dir() else os.unlink(e) for e in os.scandir(directory)])
        os.chmod(directory, 0o755)
        self.broker = testlib.Broker("", directory=directory, launcher=self.launcher)
        self.broker.environment = {"WATCHDOG_USEC": str(WATCHDOG * 1_000_000)}
        self.certificate = testlib.Certificate(directory)
        worker = f"{directory}/worker"
        shutil.copy(f"{TESTLIB}/answering_worker.py", worker)
        self.ports = [testlib.free_port() for _ in range(3)]
        self.broker.write_config(CONFIG.format(
            chain=self.certificate.chain, key=self.certificate.key, worker=worker, port=self.ports[0], second=self.ports[1],
            other=self.ports[2]))
        self.enterContext(self.broker)
        self.path = f"{directory}/run/attached.sock"
        self.ask_other()
        return self.broker

    def ask_other(self):
        with testlib.tls_connect(self.ports[2], testlib.tls_context(self.certificate)) as tls:
            tls.sendall(b"hello?\n")
            self.assertEqual(tls.recv(100), b"hello\n")

    def attach_and_serve(self, service="attached"):
        with Worker(f"{os.path.dirname(self.path)}/{service}.sock"), \
                testlib.tls_connect(self.ports[service == "second"], testlib.tls_context(self.certificate)) as tls:
            self.assertEqual(tls.recv(100).decode(), f"{service}\n")

    def porters(self, service):
        return [p for p in self.broker.status()["processes"] if p["role"] == "porter" and p["service"] == service]

    def attack(self, user, expected, seconds=8, hangs=False):
        """Has `user` attack; returns the attacker's lines, `expected` among them. Whatever he does, the rest of the broker is not
        disturbed. With `hangs` this goes on until he has stopped a porter."""
        with Watch(self.broker, self.ask_other) as watch, Attacker(self.path, user) as attacker:
            if hangs:
                self.until_it_hangs(attacker)
            testlib.wait_until(lambda: expected & set(attacker.lines), f"any of {expected}")
            end = time.monotonic() + seconds
            self.attach_and_serve("second")
            time.sleep(max(0, end - time.monotonic()))
        print(f"status {watch.status:.2f} s, watchdog {watch.silence:.2f} s, handshake {watch.handshakes:.2f} s;",
              {line: attacker.lines.count(line) for line in attacker.lines}, flush=True)
        self.assertLess(watch.status, walls.STATUS_LIMIT)
        self.assertLess(watch.silence, WATCHDOG * 1.0)
        self.assertLess(watch.handshakes, walls.INDEPENDENT)
        return attacker.lines

    def until_it_hangs(self, attacker):
        """It is chance whether the packet is there before a refusal, and which process has the last copy of its descriptor. So
        the test helps the attacker: it stops the porter while he sends, for less time than it takes until a porter counts as
        hung. So he surely wins what he would win only sometimes."""
        hung = re.compile(r"hangs, killed role=porter service=attached .*state=[SD]")
        end = time.monotonic() + 60 * testlib.PATIENCE
        while not hung.search(self.broker.log_text()):
            self.assertLess(time.monotonic(), end, "he never stops it")
            sent = attacker.lines.count("sent")
            with contextlib.suppress(ProcessLookupError):
                (pid,) = [p["pid"] for p in self.porters("attached") if p["state"] == "serving"] or [0]
                if pid:
                    os.kill(pid, signal.SIGSTOP)
                    stopped = time.monotonic()
                    while attacker.lines.count("sent") == sent and time.monotonic() < stopped + 1:
                        time.sleep(0.01)
                    os.kill(pid, signal.SIGCONT)
            time.sleep(2.5 if attacker.lines.count("sent") > sent else 0.2)

    def assert_recovers(self):
        """When nobody attacks any more the service recovers without help."""
        testlib.wait_until(lambda: [p["state"] for p in self.porters("attached")] == ["serving"], "porter", 15)
        self.attach_and_serve()

    def test_it_has_nothing_but_its_service(self):
        self.start()
        pid = self.porters("attached")[0]["pid"]
        # Control socket, listening socket, queue and socket for requests; and the eventfd that announces reports.
        links = [link.split(":")[0] for _, link in sorted(takeover.links(pid).items())]
        self.assertEqual(sorted(links[3:]), ["anon_inode", *["socket"] * 4])

    def test_a_stranger_cannot_connect(self):
        broker = self.start()
        lines = self.attack(NOBODY, {"connect Permission denied"}, seconds=1)
        self.assertEqual(set(lines), {"connect Permission denied"})
        self.assertNotIn("hangs", broker.log_text())
        self.attach_and_serve()

    def test_one_who_is_allowed_stops_only_his_own_porter(self):
        broker = self.start()
        before = self.porters("attached")
        self.attack(WWW, {"sent"}, hangs=True)
        self.assert_recovers()
        self.assertNotEqual(self.porters("attached"), before)
        self.assertNotIn("hangs, killed role=porter service=second", broker.log_text())

    def test_a_stranger_where_there_are_no_lists(self):
        """The porter refuses the stranger and then hangs, if his packet was there before the refusal."""
        self.start(lists=False)
        self.attack(NOBODY, {"sent"}, seconds=12, hangs=True)
        self.assert_recovers()

    def test_ends_in_order_meanwhile(self):
        broker = self.start()
        with Attacker(self.path, WWW) as attacker:
            self.until_it_hangs(attacker)
            time.sleep(1)
            start = time.monotonic()
            broker.signal(signal.SIGTERM)
            self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 0)
            self.assertLess(time.monotonic() - start, 8 * testlib.PATIENCE)
        self.assertFalse(os.path.exists(self.path))

    def test_porters_that_hang_are_replaced(self):
        """They are replaced however they hang; here they are stopped."""
        broker = self.start()
        before = {p["pid"] for service in (None, "attached") for p in self.porters(service)}
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        now = testlib.wait_until(self.all_serve_but(before), "other porters", 5)
        self.assertLess(time.monotonic() - start, 3 * testlib.PATIENCE)
        self.assertFalse(before & now)
        self.attach_and_serve()
        broker.wait_for_log("hangs, killed role=porter pid=")

    def all_serve_but(self, old):
        def look():
            with contextlib.suppress(subprocess.CalledProcessError):
                processes = [p for p in self.broker.status()["processes"] if p["role"] == "porter"]
                serving = {p["pid"] for p in processes if p["state"] == "serving"} - old
                return len(serving) == 3 and serving  # one was not stopped by the test
            return None
        return look


@unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else, and to mount")
class PorterOnThisKernel(Porter):
    """The same attacks, with what this kernel can do. From Linux 6.16 on it refuses descriptors that are sent to a porter."""

    launcher = []

    def test_one_who_is_allowed_stops_only_his_own_porter(self):
        broker = self.start()
        self.attack(WWW, {"send Operation not permitted"}, seconds=2)
        self.assertNotIn("hangs", broker.log_text())
        self.attach_and_serve()

    def test_a_stranger_where_there_are_no_lists(self):
        broker = self.start(lists=False)
        refused = {"send Operation not permitted", "send Broken pipe"}  # the latter comes after the refusal
        self.assertLessEqual(set(self.attack(NOBODY, refused, seconds=2)), refused)
        self.assertNotIn("hangs", broker.log_text())
        self.attach_and_serve()

    test_it_has_nothing_but_its_service = test_a_stranger_cannot_connect = None
    test_ends_in_order_meanwhile = test_porters_that_hang_are_replaced = None


def refuses_descriptors():
    with socket.socket(socket.AF_UNIX) as any_socket:
        try:
            any_socket.setsockopt(socket.SOL_SOCKET, 83, 0)  # SO_PASSRIGHTS
        except OSError:
            return False
    return True


if not refuses_descriptors():
    del PorterOnThisKernel


if __name__ == "__main__":
    unittest.main()
