# SPDX-License-Identifier: Apache-2.0
"""Relayed connections: every end is told apart from every cut, in both directions; KeyUpdates are followed; and a client or
worker that does not read costs no memory. PROTOCOL.md section 3.2."""

import contextlib
import hashlib
import os
import random
import resource
import signal
import socket
import ssl
import struct
import subprocess
import time
import unittest

import broker as testlib
import echo_service
import record_client
from memory_client import Client

BUFFERED = testlib.program("tests/interop/libbuffered-stdout.so")
VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
MIB = 2**20


def forge(client):
    """Sends a record that does not authenticate."""
    client.raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)


def reset(client):
    client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.raw.close()


class Relay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(echo_service.EchoService({"echo": "never"}))

    def client(self, version=None):
        return self.enterContext(Client(self.service, version))

    def test_the_client_ends_when_it_has_its_answer(self):
        for version, record in zip(VERSIONS, (b"\x17", b"\x15")):
            client = self.client(version)
            client.send(f"SOURCE {8 * MIB} x\n".encode())
            answer = b""
            while len(answer) < 8 * MIB + 65:
                answer += client.receive()
            self.assertEqual(hashlib.sha256(answer[:8 * MIB]).hexdigest(), answer[8 * MIB:-1].decode())
            client.end()
            self.assertEqual(client.raw.recv(100)[:1], record, "close_notify in return")

    def test_half_close(self):
        """gnutls-cli says close_notify at the end of its input and goes on reading."""
        script = f"SOURCE {4 * MIB} x\n".encode()
        for version in ("1.2", "1.3"):
            done = subprocess.run(
                ["gnutls-cli", "--no-ca-verification", "--port", str(self.service.ports["echo"]), "--priority",
                 f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--logfile", "/dev/null", "127.0.0.1"], input=script,
                env=os.environ if testlib.sanitized() else dict(os.environ, LD_PRELOAD=BUFFERED),
                capture_output=True, timeout=60 * testlib.PATIENCE, check=False)
            answer = done.stdout
            self.assertEqual(len(answer), 4 * MIB + 65, done.stderr[-500:])
            self.assertEqual(hashlib.sha256(answer[:4 * MIB]).hexdigest(), answer[4 * MIB:-1].decode())

    def test_the_worker_ends_first(self):
        for version in VERSIONS:
            client = self.client(version)
            client.send(b"ECHO 5\nhelloEND\n")
            self.assertEqual(client.receive(), b"hello")
            self.assertEqual(testlib.ending(client.receive), "end")

    def test_a_worker_that_aborts_is_a_cut(self):
        for version in VERSIONS:
            client = self.client(version)
            client.send(b"ECHO 5\nhelloABORT\n")
            self.assertEqual(client.receive(), b"hello")
            self.assertEqual(testlib.ending(client.receive), "cut")

    def test_a_worker_that_is_killed_is_a_cut(self):
        clients = [self.client(version) for version in VERSIONS]
        for client in clients:
            client.send(b"ECHO 5\nhello")
            self.assertEqual(client.receive(), b"hello")
        worker = self.service.processes()["worker"][0]
        start = len(self.service.log)
        os.kill(worker, 9)
        for client in clients:
            self.assertEqual(testlib.ending(client.receive), "cut")
        self.service.wait_for_log("started role=worker", start=start)

    def said(self, action, version=None):
        """How the stream ended for the worker, and after how many bytes, when the client does `action` in the middle of its
        data."""
        start = len(self.service.log)
        client = self.client(version)
        client.send(b"WATCH\nsome data")
        self.assertEqual(client.receive(), b"watching\n")
        action(client)
        return self.service.wait_for_log(r"saw (\w+) after (\d+)", start=start).groups()

    def test_what_the_worker_sees(self):
        def cut_inside_a_record(client):
            client.tls.write(b"x" * 1000)
            client.raw.sendall(client.outgoing.read()[:-7])
            client.raw.close()

        for version in VERSIONS:
            with self.subTest(version=version.name):
                self.assertEqual(self.said(lambda client: client.end(), version), ("end", "9"))
                self.assertEqual(self.said(lambda client: client.raw.close(), version), ("cut", "9"))
                self.assertEqual(self.said(reset, version)[0], "cut")
                self.assertEqual(self.said(cut_inside_a_record, version), ("cut", "9"))
                self.assertEqual(self.said(forge, version), ("cut", "9"))

    def test_a_slow_worker_gets_what_was_before_the_end(self):
        """The client sends more than the relay can pass on, and the end or the cut has come before the worker reads."""
        size = 600000
        worker = self.service.processes()["worker"][0]

        def late(end):
            def action(client):
                os.kill(worker, signal.SIGSTOP)
                try:
                    client.send(b"x" * size)
                    end(client)
                    time.sleep(0.1)
                finally:
                    os.kill(worker, signal.SIGCONT)
            return action

        for version in VERSIONS:
            for end, seen in ((lambda client: client.end(), "end"), (lambda client: client.raw.close(), "cut"),
                              (forge, "cut")):
                with self.subTest(version=version.name, seen=seen):
                    self.assertEqual(self.said(late(end), version), (seen, str(9 + size)))

    def test_both_ways_at_once(self):
        data = random.Random(1).randbytes(8 * MIB)
        for version in VERSIONS:
            with self.service.connect(context=self.service.context(version)) as tls:
                received = testlib.both_ways(tls, b"ECHO %d\n" % len(data) + data, len(data))
                self.assertEqual(hashlib.sha256(received).digest(), hashlib.sha256(data).digest())

    def wait_for_relayed(self, count):
        testlib.wait_until(lambda: self.service.status()["counters"]["relay_active"] == count, f"{count} relayed")

    def test_a_reset_frees_a_worker_that_only_writes(self):
        for version in VERSIONS:
            client = self.client(version)
            client.send(f"SOURCE {16 * MIB} x\n".encode() + b"x" * MIB)
            self.wait_for_relayed(1)
            reset(client)
            self.wait_for_relayed(0)

    def resident(self):
        total = 0
        for pid in self.service.processes()["handshaker"]:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
        return total

    def test_who_does_not_read_costs_no_memory(self):
        before = self.resident()
        silent = [self.client() for _ in range(4)]
        for client in silent:
            client.send(f"SOURCE {16 * MIB} x\n".encode())
        talking = self.client()
        talking.send(b"STALL\n")
        talking.raw.settimeout(1)
        sent = 0
        try:
            while sent < 64 * MIB:
                talking.send(b"x" * MIB)
                sent += MIB
        except TimeoutError:
            pass
        self.assertLess(sent, 64 * MIB, "a worker that does not read holds the client up")
        time.sleep(0.2)
        grown = self.resident() - before
        print(f"  5 stalled connections: the handshakers grew by {grown} KiB")
        # AddressSanitizer keeps memory that was freed.
        self.assertLess(grown, 16384 if testlib.sanitized() else 2048)

    def s_client(self, *commands):
        """Runs openssl s_client with its command letters; each command is sent when the one before it has been answered."""
        client = subprocess.Popen(
            ["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{self.service.ports['echo']}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            with client.stdin, client.stdout:
                for command, answer in commands:
                    client.stdin.write(command)
                    client.stdin.flush()
                    line = b""
                    while not (found := line.startswith(answer)):
                        line = client.stdout.readline()
                        if not line:
                            break
                    self.assertTrue(found, f"no {answer} after {command}")
        finally:
            client.kill()
            client.wait()

    def test_key_update(self):
        """"k": s_client changes its own keys; "K": it also asks the other side to change its keys."""
        self.s_client((b"ECHO 6\nhello\n", b"hello"), (b"k\n", b"KEYUPDATE"), (b"ECHO 6\nagain\n", b"again"),
                      (b"K\n", b"KEYUPDATE"), (b"ECHO 6\nthird\n", b"third"), (b"ECHO 6\nforth\n", b"forth"))

    def test_too_many_key_updates_end_the_connection(self):
        command = [testlib.program("tests/interop/key-updates"), str(self.service.ports["echo"]), "1", "50", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)

    # In the tests that follow the whole flood has come before the relay looks at its first record: SSL_read() would go on to the
    # end of the flood.

    def handshakers_cpu(self):
        return sum(map(testlib.cpu_seconds, self.service.processes()["handshaker"]))

    def test_a_flood_of_key_updates_is_not_read_to_its_end(self):
        command = [testlib.program("tests/interop/key-updates"), str(self.service.ports["echo"]), "1", "200000", "0"]
        before, client_before = self.handshakers_cpu(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        # It costs as much to follow a KeyUpdate as to make one.
        made = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - client_before
        self.assertLess(self.handshakers_cpu() - before, made / 3)

    def test_a_flood_of_renegotiations_is_not_read_to_its_end(self):
        hello = bytes([1, 0, 0, 0])  # its length is 0: it is refused because it is a ClientHello
        client = record_client.RecordClient(self.service.ports["echo"], self.service.context(), record_client.V1_2)
        with client:
            client.send(record_client.HANDSHAKE, hello)
            self.assertEqual(client.receive(), (record_client.ALERT, bytes([record_client.WARNING, 100])), "no_renegotiation")
            client.raw.sendall(b"".join(client.out.seal(record_client.HANDSHAKE, hello) for _ in range(2000)))
            alert, answer = bytes(31), b""
            with contextlib.suppress(ConnectionResetError):
                while data := client.raw.recv(1 << 16):
                    answer += data
        self.assertLess(len(answer), 100 * len(alert), "an alert for each, until it was too many")


if __name__ == "__main__":
    unittest.main()
