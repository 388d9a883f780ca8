# SPDX-License-Identifier: Apache-2.0
"""What examples/file-worker has to do, as tests for relayed and for direct connections."""

import io
import json
import os
import signal
import subprocess
import tempfile

import broker as testlib
import web_worker


class FileWorker(web_worker.WebWorker):
    """`mode` is what the connections are."""

    def curl(self, path, *options):
        return subprocess.run(["curl", "-sS", "-4", "--path-as-is", "--cacert", self.certificate.chain, *options,
                               self.url + path], capture_output=True, timeout=30 * testlib.PATIENCE, check=True).stdout

    def serve_files(self, **files):
        root = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(root, 0o755)
        for name, content in files.items():
            with open(os.path.join(root, name), "wb") as file:
                file.write(content)
        self.serve([testlib.program("examples/file-worker"), root], [root, testlib.program("client-lib")])

    def connect(self):
        tls = testlib.tls_connect(int(self.url.rpartition(":")[2]), testlib.tls_context(self.certificate), timeout=60)
        return self.enterContext(tls)

    @staticmethod
    def answer(lines):
        """The fields and the body of an answer with a length."""
        fields = {}
        for line in iter(lines.readline, b"\r\n"):
            name, _, value = line.decode().strip().partition(":")
            fields[name.lower()] = value.strip()
        return fields, lines.read(int(fields["content-length"]))

    def test_files(self):
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o755)
            content = os.urandom(3 * 2**20)
            with open(os.path.join(root, "data"), "wb") as file:
                file.write(content)
            worker = testlib.program("examples/file-worker")
            self.serve([worker, root], [root, testlib.program("client-lib")])
            self.assertEqual(self.curl("/data"), content)
            self.assertEqual(self.curl("/nothing", "-o", "/dev/null", "-w", "%{http_code}"), b"404")
            for path in ("/../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/data/../../etc/passwd"):
                self.assertNotIn(b"root:", self.curl(path), path)
            self.assertEqual(json.loads(self.curl("/connection.json"))["mode"], self.mode)
            head = self.curl("/data", "-I").decode().lower()
            self.assertIn(f"content-length: {len(content)}", head)
            many = self.curl("/data", *[f"{self.url}/data"] * 3)
            self.assertEqual(len(many), 4 * len(content), "keep-alive")

    def test_old_clients(self):
        """Clients of HTTP/1.0 read to the end, unless they ask for more, and then have to be told."""
        self.serve_files(data=b"content")
        for request, more in (("HTTP/1.0", False), ("HTTP/1.0\r\nConnection: close", False),
                              ("HTTP/1.0\r\nConnection: Keep-Alive", True), ("HTTP/1.0\r\nConnection: TE, keep-alive", True),
                              ("HTTP/1.1", True), ("HTTP/1.1\r\nConnection: keep-alive", True),
                              ("HTTP/1.1\r\nConnection: TE,close", False)):
            with self.subTest(request):
                tls = self.connect()
                lines = tls.makefile("rb")
                for turn in range(3 if more else 1):
                    tls.sendall(f"GET /data {request}\r\nHost: localhost\r\n\r\n".encode())
                    fields, body = self.answer(lines)
                    self.assertEqual(body, b"content")
                    told = None if "1.1" in request else "keep-alive"
                    self.assertEqual(fields.get("connection"), told if more else "close", turn)
                if not more:
                    self.assertEqual(lines.read(), b"", "it ends the connection, in an authenticated way")

    def test_it_waits_for_nobody(self):
        """Clients that say nothing, or half a request, or do not read their answers."""
        self.serve_files(data=bytes(2**24), small=b"content")
        others = [self.connect() for _ in range(60)]
        for number, tls in enumerate(others):
            tls.sendall((b"", b"GET /sm", b"POST /count HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"GET /data HTTP/1.1\r\n\r\n")[number % 4])
        for _ in range(20):
            tls = self.connect()
            tls.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            self.assertTrue(tls.makefile("rb").read().endswith(b"\r\n\r\ncontent"))
        others[1].sendall(b"all HTTP/1.0\r\n\r\n")
        self.assertTrue(others[1].makefile("rb").read().endswith(b"content"))
        others[2].sendall(b"123456789")
        self.assertEqual(self.answer(others[2].makefile("rb"))[1], b"9\n")
        self.assertEqual(len(self.answer(others[3].makefile("rb"))[1]), 2**24)

    def test_bodies(self):
        """Bodies come back, and requests may come before the answers to those in front of them are read."""
        self.serve_files(small=b"content")
        body = os.urandom(2**22)
        tls = self.connect()
        one = b"GET /small HTTP/1.1\r\n\r\n"
        sent = one + b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body + one
        received = testlib.both_ways(tls, sent + b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
        lines = io.BytesIO(bytes(received))
        for expected in (b"content", body, b"content", b"Not Found\n"):
            self.assertEqual(self.answer(lines)[1], expected)
        self.assertEqual(lines.read(), b"")
        for request, status in ((b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/2.0\r\n\r\n", b"505"),
                                (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
                                # openat(2) sees only what is in front of a NUL.
                                (b"GET /..\0/..\0/etc/passwd HTTP/1.1\r\n\r\n", b"400"),
                                (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
                                (b"POST /count HTTP/1.1\r\nContent-Length : 1\r\n\r\n", b"400"),
                                (b"POST /count HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
                                (b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411")):
            tls = self.connect()
            tls.sendall(request)
            self.assertEqual(tls.makefile("rb").read().split()[1], status)

    def test_it_finishes(self):
        """SIGTERM ends idle connections; an answer under way is sent first."""
        self.serve_files(data=bytes(2**24))
        idle, busy = self.connect(), self.connect()
        idle.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
        lines = idle.makefile("rb")
        self.answer(lines)
        busy.sendall(b"GET /data HTTP/1.1\r\n\r\n")
        self.assertEqual(busy.recv(4), b"HTTP")
        os.kill(self.broker.processes()["worker"][0], signal.SIGTERM)
        self.assertEqual(lines.read(), b"")
        rest = busy.makefile("rb").read()
        self.assertTrue(rest.endswith(bytes(2**24)))
        self.broker.wait_for_log("ended role=worker .*status=0")
