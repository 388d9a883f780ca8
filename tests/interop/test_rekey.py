# SPDX-License-Identifier: Apache-2.0
"""KeyUpdate (RFC 8446 section 4.6.3) on connections that the kernel encrypts: it is followed where the kernel can (Linux 6.14),
with tokens that work only once and only for one connection; elsewhere there is a clear error."""

import os
import ssl
import subprocess
import time
import unittest

import broker as testlib
import echo_service
from exec_service import ExecService
from memory_client import Client

LIBRARY_WORKER = testlib.program("tests/interop/library-worker")
KEY_UPDATES = testlib.program("tests/interop/key-updates")
BUFFERED = testlib.program("tests/interop/libbuffered-stdout.so")
DONE, BUSY, REFUSED = 0, 1, 2


def s_client(port, *commands):
    """Whether all answers came: each command is sent when a line has come that begins with the answer to the command before
    it."""
    client = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{port}"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with client.stdin, client.stdout:
            for command, answer in commands:
                client.stdin.write(command)
                client.stdin.flush()
                line = b""
                while not line.startswith(answer):
                    line = client.stdout.readline()
                    if not line:
                        return False
        return True
    except BrokenPipeError:
        return False
    finally:
        client.kill()
        client.wait()


class Rekey(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        cls.service = cls.enterClassContext(ExecService(
            {"library": [LIBRARY_WORKER], "bridge": ["/bin/cat"]}, commands=("library",)))
        cls.updating = cls.enterClassContext(ExecService({"updating": [LIBRARY_WORKER, "1"]}, commands=("updating",)))
        cls.rekey = testlib.expects("rekey")

    def test_s_client(self):
        for name, port in self.service.ports.items():
            with self.subTest(service=name):
                good = s_client(port, (b"hello\n", b"hello"), (b"k\n", b"KEYUPDATE"), (b"again\n", b"again"),
                                (b"K\n", b"KEYUPDATE"), (b"third\n", b"third"), (b"forth\n", b"forth"))
                self.assertEqual(good, self.rekey)

    def test_gnutls_cli(self):
        for name, port in self.service.ports.items():
            with self.subTest(service=name):
                lines = b"hello\n^rekey^\nagain\n" + b"".join(b"line %d\n" % i for i in range(50))
                client = subprocess.Popen(
                    ["gnutls-cli", "--no-ca-verification", "--inline-commands", "--port", str(port), "--priority",
                     "NORMAL:-VERS-ALL:+VERS-TLS1.3", "--logfile", "/dev/null", "127.0.0.1"],
                    env=dict(os.environ, LD_PRELOAD=BUFFERED), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT)
                answer, _ = client.communicate(lines, 60 * testlib.PATIENCE)
                self.assertEqual(b"again" in answer and b"line 49" in answer, self.rekey, answer[-300:])

    def test_fifty_within_a_transfer(self):
        for name, port in self.service.ports.items():
            with self.subTest(service=name):
                done = subprocess.run([KEY_UPDATES, str(port), "32", "50", "5"], capture_output=True, text=True,
                                      timeout=300 * testlib.PATIENCE, check=False)
                if self.rekey:
                    self.assertEqual((done.returncode, done.stdout), (0, "50 sent, 25 received, 32 MiB\n"))
                else:
                    self.assertEqual(done.returncode, 1, done.stdout)

    def test_our_own(self):
        """The worker changes its own keys every MiB."""
        done = subprocess.run([KEY_UPDATES, str(self.updating.ports["updating"]), "8", "1", "5"], capture_output=True,
                              text=True, timeout=300 * testlib.PATIENCE, check=False)
        if not self.rekey:
            self.updating.wait_for_log("library: ended mode=direct result=-95 ")
            return
        self.assertEqual(done.returncode, 0, done.stdout)
        updates = int(done.stdout.split()[2])
        self.assertGreater(updates, 3, done.stdout)

    def test_half_close_of_64_mib_by_the_library(self):
        data = bytes(range(251)) * (64 * 2**20 // 251)
        with Client(self.service, None, "library") as client:
            self.assertEqual(client.exchange(data), data)

    def test_without_rekeying_a_clear_end_and_no_spin(self):
        if self.rekey:
            return  # on the other kernel
        start = len(self.service.log)
        for name in self.service.ports:
            s_client(self.service.ports[name], (b"hello\n", b"hello"), (b"k\n", b"nothing"))
        self.service.wait_for_log(r"library: ended mode=direct result=-5003 .*keys cannot be changed", start=start)
        self.service.wait_for_log(r"exec: ended conn=\w+ signal=15 .*keys cannot be changed", start=start)
        workers = self.service.processes()["worker"]
        before = sum(map(testlib.cpu_seconds, workers))
        time.sleep(3)
        used = sum(map(testlib.cpu_seconds, workers)) - before
        print(f"\n  CPU time of the workers in the next 3 s: {used:.2f} s", flush=True)
        self.assertLess(used, 0.5)

    def test_too_many(self):
        for name, port in self.service.ports.items():
            with self.subTest(service=name):
                done = subprocess.run([KEY_UPDATES, str(port), "8", "50", "0"], capture_output=True, text=True,
                                      timeout=300 * testlib.PATIENCE, check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
        if self.rekey:
            self.service.wait_for_log("library: ended mode=direct result=-5004")


class Example(unittest.TestCase):
    """examples/python-worker was written from PROTOCOL.md alone: if it cannot do something, PROTOCOL.md does not say how."""

    def test_python_worker(self):
        echo_service.require_ktls()
        worker = os.path.join(testlib.SOURCE, "examples/python-worker/worker.py")
        service = self.enterContext(ExecService({"python": ["/usr/bin/python3", worker]}, commands=("python",),
                                                lines=f'read_only = ["{worker}"]'))
        good = s_client(service.ports["python"], (b"hello\n", b"hello"), (b"k\n", b"KEYUPDATE"), (b"again\n", b"again"),
                        (b"K\n", b"KEYUPDATE"), (b"third\n", b"third"), (b"forth\n", b"forth"))
        self.assertEqual(good, testlib.expects("rekey"))
        if not good:
            service.wait_for_log("worker.py: keys cannot change here")


class Policy(unittest.TestCase):
    def test_required(self):
        """rekey = "require": connections whose KeyUpdates the kernel cannot follow are relayed from the start."""
        echo_service.require_ktls()
        with echo_service.EchoService(lines='rekey = "require"') as service:
            for version, direct in ((ssl.TLSVersion.TLSv1_3, testlib.expects("rekey")),
                                    (ssl.TLSVersion.TLSv1_2, True)):
                told, _ = echo_service.who(service.ask(context=service.context(version)))
                self.assertEqual(told["mode"], "direct" if direct else "relay", version)
                if not direct:
                    self.assertEqual(told["reason"], "kernel-no-rekey")

    def test_who_writes_and_closes_is_not_cut_by_a_ticket(self):
        """A relayed connection gets its tickets later than a direct one; whether the kernel has TLS does not matter."""
        echo_service.require_ktls()
        if testlib.expects("rekey"):
            return
        with echo_service.EchoService(lines='rekey = "require"') as service:
            for _ in range(5):
                start = len(service.log)
                with Client(service, ssl.TLSVersion.TLSv1_3) as client:
                    client.send(b"COUNT\n" + bytes(1_000_000))
                    client.end()
                ended = service.wait_for_log(r"worker\.echo\S* (saw \w+ after \d+)", start=start, timeout=30)
                self.assertEqual(ended.group(1), "saw end after 1000000")


class Tokens(unittest.TestCase):
    """A worker that misuses tokens; echo_worker.py is written by PROTOCOL.md alone."""

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        cls.service = cls.enterClassContext(echo_service.EchoService())

    def connection(self):
        tls = self.enterContext(self.service.connect())
        return tls, tls.makefile("rb")

    def command(self, connection, text):
        tls, lines = connection
        tls.sendall(text.encode() + b"\n")
        return lines.readline().decode().split()

    def counter(self, name):
        return self.service.status()["counters"][name]

    def test_one_token_at_two_handshakers(self):
        """Only one of the two may use the token: a key that is installed twice seals two records with the same number."""
        if not testlib.expects("rekey"):
            return
        connection = self.connection()
        token, = self.command(connection, "TOKEN")
        for _ in range(100):
            first, second, token = self.command(connection, f"RACE 2 {token}")
            self.assertEqual((first, second), (f"[{DONE},", f"{REFUSED}]"))

    def test_good_replayed_altered_and_foreign(self):
        first, second = self.connection(), self.connection()
        if not testlib.expects("rekey"):
            self.assertEqual(self.command(first, "TOKEN"), [], "none where it is good for nothing")
            return
        token, = self.command(first, "TOKEN")
        foreign, = self.command(second, "TOKEN")
        altered = token[:-1] + ("0" if token[-1] != "0" else "1")
        for bad in (altered, foreign, token[:-2], "00" * 155, "00"):
            self.assertEqual(self.command(first, f"REKEY 2 {bad}")[0], str(REFUSED))
        # The peer follows our KeyUpdate by itself: we may change the sending keys at any time.
        status, after = self.command(first, f"REKEY 2 {token}")
        self.assertEqual(status, str(DONE))
        self.assertEqual(self.command(first, f"REKEY 2 {token}")[0], str(REFUSED), "replayed")
        status, last = self.command(first, f"REKEY 2 {after}")
        self.assertEqual(status, str(DONE))
        self.assertEqual(self.command(first, f"REKEY 2 {token}")[0], str(REFUSED), "old")
        self.assertEqual(self.command(first, f"REKEY 2 {after}")[0], str(REFUSED), "old")
        self.assertEqual(len({token, after, last}), 3)
        self.assertEqual(self.command(second, f"REKEY 2 {last}")[0], str(REFUSED), "another connection's")
        testlib.wait_until(lambda: self.counter("rekey_refused") == 9, "nine counted as refused")
        testlib.wait_until(lambda: self.counter("rekeyed") == 2, "two counted as done")


if __name__ == "__main__":
    testlib.main()
