# SPDX-License-Identifier: Apache-2.0
"""Clients in eight languages that write, end and close without reading: all that they have written reaches the program. Prints a
table. Natively the broker relays; in a guest the kernel does the records, and the clients that start slowly are left out."""

import concurrent.futures
import contextlib
import os
import subprocess
import tempfile
import unittest

import broker as testlib
import echo_service
import packets
from upload_cases import DATA, KINDS, SIZES, TICKETS, UploadService, data_on_the_wire, service_name

CLIENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients")
VERSIONS = ("1.2", "1.3")
# The largest ones take several seconds each in a guest.
TIMES = dict.fromkeys(SIZES, 20) | ({max(SIZES): 3} if testlib.GUEST else {})
DIRECT = echo_service.kernel_has_tls()


class Uploads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(UploadService("require" if DIRECT else "prefer"))
        cls.home = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.rows = []

    @classmethod
    def tearDownClass(cls):
        head = ["client", "TLS", "mode"] + [f"{kind} tickets={tickets}" for kind in KINDS for tickets in TICKETS]
        print(f"\nUploads that were whole; in a cell those of {', '.join(map(str, SIZES))} bytes")
        for row in (head, ["---"] * len(head), *cls.rows):
            print("|", " | ".join(row), "|")

    def check(self, name, run):
        """`run` has the client make a number of uploads."""
        for version in VERSIONS:
            row = [name, version, "direct" if DIRECT else "relay"]
            for kind in KINDS:
                for tickets in TICKETS:
                    counts = [self.count(name, run, kind, tickets, size, version) for size in SIZES]
                    row.append(" ".join(f"{whole}/{TIMES[size]}" for whole, size in zip(counts, SIZES)))
            self.rows.append(row)

    def count(self, name, run, kind, tickets, size, version):
        """How many of the uploads are whole."""
        service, start, whole = service_name(kind, tickets), len(self.service.log), 0
        with self.subTest(client=name, version=version, kind=kind, tickets=tickets, size=size):
            port = self.service.ports[service]
            traced = DIRECT and version == "1.3" and tickets
            with packets.Trace() if traced else contextlib.nullcontext() as trace:
                run("127.0.0.1", port, size, version, self.service.certificate.chain, TIMES[size])
                uploads = self.service.uploads(service, start, TIMES[size], 120)
                senders = trace.senders() if traced else {}
            whole = sum(upload.whole(size) for upload in uploads)
            self.assertEqual([upload.size for upload in uploads if not upload.right], [], "other bytes than were sent")
            self.assertTrue(all(upload.size == size for upload in uploads if upload.ended), "a part that looks like the whole")
            if traced:
                self.check_by_trace(kind, uploads, {source: sent for (source, target), sent in senders.items() if target == port})
            else:
                self.assertEqual(whole, TIMES[size], [(upload.ended, upload.size) for upload in uploads])
        return whole

    def check_by_trace(self, kind, uploads, senders):
        """When a client closes with its ticket unread, its kernel throws away what it has not sent. What it has sent comes."""
        sent = {port: data_on_the_wire(sender.stream) for port, sender in senders.items()}
        come = {int(upload.peer.rpartition(":")[2]): (upload.size, upload.ended) for upload in uploads}
        if kind == "exec":  # it ends its program by SIGTERM when there is no end: what the program has read by then is open
            sent = {port: what for port, what in sent.items() if what[1]}
            come = {port: what for port, what in come.items() if what[1]}
        self.assertEqual(come, sent)

    @staticmethod
    def run_client(*command):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300 * testlib.PATIENCE,
                              check=False)
        if done.returncode or done.stderr:
            raise AssertionError(f"status {done.returncode}: {done.stderr}")

    def interpreted(self, file, *command):
        return lambda *arguments: self.run_client(*command, os.path.join(CLIENTS, file), *arguments)

    def test_python(self):
        self.check("Python", self.interpreted("upload.py", "/usr/bin/python3"))

    def test_perl(self):
        self.check("Perl", self.interpreted("upload.pl", "perl"))

    def test_go(self):
        program = os.environ.get("TLSBROKER_GO_CLIENT")  # the compiler takes minutes in a guest
        if not program:
            program = os.path.join(self.home, "upload")
            subprocess.run(["go", "build", "-o", program, os.path.join(CLIENTS, "upload.go")], check=True,
                           env={**os.environ, "GOCACHE": os.path.join(self.home, "go"), "GO111MODULE": "off", "CGO_ENABLED": "0"})
        self.check("Go", lambda *arguments: self.run_client(program, *arguments))

    if not testlib.GUEST:  # they take too long to start there
        def test_ruby(self):
            self.check("Ruby", self.interpreted("upload.rb", "ruby"))

        def test_php(self):
            self.check("PHP", self.interpreted("upload.php", "php"))

        def test_node(self):
            self.check("Node", self.interpreted("upload.js", "node"))

        def test_java(self):
            subprocess.run(["javac", "-d", self.home, os.path.join(CLIENTS, "Upload.java")], check=True)
            self.check("Java", lambda *arguments: self.run_client("java", "-cp", self.home, "Upload", *arguments))

    def test_s_client(self):
        file = os.path.join(self.home, "data")

        def upload(host, port, size, version, trusted):
            with open(file, "rb") as data:
                done = subprocess.run(
                    ["openssl", "s_client", "-connect", f"{host}:{port}", f"-tls{version.replace('.', '_')}", "-CAfile", trusted,
                     "-verify_ip", host, "-verify_return_error", "-nocommands", "-quiet", "-no_ign_eof"],
                    stdin=data, capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
            if done.returncode:
                raise AssertionError(f"status {done.returncode}: {done.stderr}")

        def run(host, port, size, version, trusted, times):
            with open(file, "wb") as data:
                data.write(DATA[:size])
            # Each waits for the server's end, or half a second.
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: upload(host, port, size, version, trusted), range(times)))

        self.check("s_client", run)


if __name__ == "__main__":
    testlib.main()
