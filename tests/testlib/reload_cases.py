# SPDX-License-Identifier: Apache-2.0
"""Reloads while clients handshake and transfer: no client is refused or cut off, and new certificates are shown."""

import hashlib
import json
import ssl
import threading

import broker as testlib
import echo_service
import memory_client

RELOADS = 6 if testlib.GUEST else 20  # under emulation each takes many seconds
VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)


class Load:
    """Clients that make one connection after the other until finish(), which reports everything that went wrong."""

    def __init__(self, *works):
        self.stop, self.failures, self.served = threading.Event(), [], [0] * len(works)
        self.threads = [threading.Thread(target=self.run, args=(i, work)) for i, work in enumerate(works)]
        for thread in self.threads:
            thread.start()

    def run(self, index, work):
        while not self.stop.is_set():
            try:
                work()
                self.served[index] += 1
            except Exception as error:  # pylint: disable=broad-except
                self.failures.append(f"{type(error).__name__}: {error}")

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(120 * testlib.PATIENCE)
        return self.served


class UnderLoad:
    """Tests for a unittest.TestCase with a `ktls` attribute."""

    def setUp(self):
        # The transfers take as long as the machine needs for them, so the drain timeout is long.
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": self.ktls}, broker_lines='max_handshakes_per_source = 1000\ndrain_timeout = "10m"'))

    @staticmethod
    def any_certificate(version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def resumed(self, context, session=None):
        """Whether the session was resumed, about which both sides have to agree; and the session of this connection."""
        with self.service.connect(context=context, session=session) as tls:
            tls.sendall(b"WHO\n")
            told = json.loads(tls.makefile("rb").readline())
            self.assertEqual(told["resumed"], tls.session_reused)
            return tls.session_reused, tls.session

    def handshake(self):
        with self.service.connect(context=self.any_certificate(), timeout=60) as tls:
            tls.sendall(b"ECHO 4\nping")
            self.assertEqual(tls.recv(100), b"ping")

    def download(self):
        with self.service.connect(context=self.any_certificate(), timeout=60) as tls:
            tls.sendall(b"SOURCE 4000000 1\n")
            stream = tls.makefile("rb")
            data = stream.read(4000000)
            self.assertEqual(stream.readline().strip().decode(), hashlib.sha256(data).hexdigest())

    def upload(self):
        with self.service.connect(context=self.any_certificate(), timeout=60) as tls:
            data = bytes(range(256)) * 8000
            tls.sendall(b"SINK %d\n" % len(data) + data + b"END\n")
            self.assertEqual(tls.makefile("rb").read().strip().decode(), hashlib.sha256(data).hexdigest())

    def shown(self):
        with self.service.connect(context=self.any_certificate()) as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(True))

    def test_reloads(self):
        tickets = []
        for version in VERSIONS:
            context = self.any_certificate(version)
            resumed, session = self.resumed(context)
            self.assertFalse(resumed)
            tickets.append((context, session))
        worker = self.service.processes()["worker"]
        held = self.enterContext(memory_client.Client(self.service))
        load = Load(self.handshake, self.handshake, self.download, self.upload)
        self.addCleanup(load.finish)
        certificates = {self.shown()}
        for generation in range(2, RELOADS + 2):
            for certificate in self.service.certificates:
                certificate.__init__(self.service.home)
            self.service.reload(f"ready generation={generation} ")
            held.send(b"ECHO 5\n%5d" % generation)
            self.assertEqual(held.receive(), b"%5d" % generation)
            with open(self.service.certificates[0].chain, encoding="ascii") as file:
                chain = file.read()
            self.assertEqual(self.shown(), chain, "the next connection after a reload is the new generation's")
            certificates.add(chain)
        served = load.finish()
        self.assertEqual(load.failures, [])
        self.assertTrue(all(served), served)
        print(f"\n  {RELOADS} reloads; served meanwhile: {served}", flush=True)
        self.assertEqual(len(certificates), RELOADS + 1)
        for context, session in tickets:
            self.assertTrue(self.resumed(context, session)[0], "a ticket from before the first reload")
        self.assertEqual(self.service.processes()["worker"], worker, "its configuration has not changed")
