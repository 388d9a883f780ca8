# SPDX-License-Identifier: Apache-2.0
"""Session tickets: every handshaker takes them, after a reload and after a handshaker's death, and no other service does."""

import json
import os
import ssl
import subprocess
import unittest

import broker as testlib
import echo_service
import memory_client

VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)


class Tickets(unittest.TestCase):
    def setUp(self):
        self.broker = self.enterContext(echo_service.EchoService({"echo": "prefer", "other": "prefer"}, handshakers=3))

    def full(self, version):
        """Makes a full handshake; returns the context and the session."""
        context = self.broker.context(version)
        with self.broker.connect(context=context) as tls:
            tls.sendall(b"WHO\n")
            self.assertFalse(json.loads(tls.makefile("rb").readline())["resumed"])
            return context, tls.session

    def resumed(self, context, session, service="echo"):
        with self.broker.connect(service=service, context=context, session=session) as tls:
            tls.sendall(b"WHO\n")
            told = json.loads(tls.makefile("rb").readline())
            self.assertEqual(told["resumed"], tls.session_reused)
            return told["resumed"]

    def test_by_every_handshaker(self):
        for version in VERSIONS:
            with self.subTest(version=version.name):
                context, session = self.full(version)
                start = len(self.broker.log)
                self.assertEqual([self.resumed(context, session) for _ in range(30)], [True] * 30)
                lines = [line for line in self.broker.log[start:] if " resumed=yes" in line]
                self.assertGreaterEqual(len({line.split(":")[0] for line in lines}), 2, "several handshakers took it")

    def test_each_gives_the_next(self):
        """A client that uses each TLS 1.3 ticket only once can resume each time."""
        context, session = self.full(ssl.TLSVersion.TLSv1_3)
        seen = {session.id}
        for _ in range(5):
            with self.broker.connect(context=context, session=session) as tls:
                tls.sendall(b"WHO\n")
                self.assertTrue(json.loads(tls.makefile("rb").readline())["resumed"])
                session = tls.session
            seen.add(session.id)
        self.assertEqual(len(seen), 6)

    def test_not_by_another_service(self):
        for version in VERSIONS:
            context, session = self.full(version)
            self.assertFalse(self.resumed(context, session, service="other"))

    def test_after_a_reload(self):
        sessions = [self.full(version) for version in VERSIONS]
        self.broker.reload()
        for context, session in sessions:
            self.assertTrue(self.resumed(context, session))

    def test_after_the_death_of_all_handshakers(self):
        sessions = [self.full(version) for version in VERSIONS]
        start = len(self.broker.log)
        for pid in self.broker.processes()["handshaker"]:
            os.kill(pid, 9)
        for service in ("echo", "other"):
            self.broker.wait_for_log(rf"started role=handshaker\[5\] service={service} ", start=start, timeout=20)
        for context, session in sessions:
            self.assertTrue(self.resumed(context, session))

    def test_a_changed_ticket_is_a_full_handshake(self):
        """A stranger can write any bytes into a ticket: here s_client's session file has one bit of its ticket changed."""
        path = os.path.join(self.broker.home, "session")
        command = ["openssl", "s_client", "-quiet", "-nocommands", "-tls1_2", "-connect",
                   f"127.0.0.1:{self.broker.ports['echo']}"]
        ask = {"input": b"WHO\nEND\n", "capture_output": True, "timeout": 20 * testlib.PATIENCE}
        subprocess.run([*command, "-sess_out", path], check=True, **ask)
        with open(path, encoding="ascii") as file:
            session = ssl.PEM_cert_to_DER_cert(file.read().replace("SSL SESSION PARAMETERS", "CERTIFICATE"))
        ticket = session.rindex(b"\xaa\x81")  # [10] OCTET STRING, the ticket (OpenSSL's ssl_asn1.c)
        for offset in (10, 30, 60, 120):
            changed = bytearray(session)
            changed[ticket + offset] ^= 1
            pem = ssl.DER_cert_to_PEM_cert(bytes(changed)).replace("CERTIFICATE", "SSL SESSION PARAMETERS")
            with open(path, "w", encoding="ascii") as file:
                file.write(pem)
            done = subprocess.run([*command, "-sess_in", path], check=True, **ask)
            self.assertFalse(json.loads(done.stdout)["resumed"])


class Number(unittest.TestCase):
    """`tickets`, and that a relayed connection gets them with what the worker writes first."""

    def setUp(self):
        self.broker = self.enterContext(echo_service.EchoService(
            {f"t{number}": "never" for number in range(3)}, lines={f"t{number}": f"tickets = {number}" for number in range(3)}))

    def given(self, number, *options, command=b"WHO\nEND\n"):
        """How many a client of openssl has got."""
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.broker.ports[f't{number}']}", "-ign_eof", *options], input=command,
            capture_output=True, timeout=20 * testlib.PATIENCE, check=False)
        return done.stdout.count(b"Post-Handshake New Session Ticket arrived") if "-tls1_3" in options else \
            done.stdout.count(b"TLS session ticket:")

    def test_as_many_as_the_service_says(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(self.given(number, "-tls1_3"), number)
                self.assertEqual(self.given(number, "-tls1_2"), min(number, 1))

    def test_none_is_taken_after_a_reload_to_none(self):
        for version in VERSIONS:
            context = self.broker.context(version)
            with self.broker.connect(service="t1", context=context) as tls:
                tls.sendall(b"WHO\n")
                tls.recv(4096)
                session = tls.session
            self.broker.lines["t1"] = "tickets = 0"
            self.broker.reload()
            with self.broker.connect(service="t1", context=context, session=session) as tls:
                self.assertFalse(tls.session_reused)
            self.broker.lines["t1"] = "tickets = 1"
            self.broker.reload()

    def test_who_writes_and_closes_is_not_cut(self):
        """The client does not read, so a ticket would make its close a reset. The worker, which answers nothing, has all."""
        for version in VERSIONS:
            with self.subTest(version=version.name):
                for _ in range(20):
                    self.assertEqual(self.upload(version, b"COUNT\n", 101_701), "saw end after 101701")

    def test_nor_who_has_to_wait_for_the_worker(self):
        """Its kernel still has a part when it closes. Until the worker reads, nobody has said anything for some time."""
        told = self.upload(ssl.TLSVersion.TLSv1_3, b"LATE\n", 12_000_000)
        self.assertEqual(told, "saw end after 12000000")

    def upload(self, version, command, size):
        start = len(self.broker.log)
        with memory_client.Client(self.broker, version, "t1") as client:
            client.send(command + bytes(size))
            client.end()
        return self.broker.wait_for_log(r"worker\.t1\S* (saw \w+ after \d+)", start=start, timeout=30).group(1)


if __name__ == "__main__":
    unittest.main()
