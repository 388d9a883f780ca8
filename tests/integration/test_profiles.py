# SPDX-License-Identifier: Apache-2.0
"""Workers under profile = "strict" and with limits: they serve, and cannot exceed their limits."""

import json
import os
import subprocess
import tempfile
import unittest

import broker as testlib
import echo_service

PYTHON = "/usr/bin/python3"


class Profiles(unittest.TestCase):
    def serve(self, command, read_only, lines=""):
        self.port = testlib.free_port()
        broker = testlib.Broker("")
        self.certificate = testlib.Certificate(broker.directory)
        broker.write_config(
            f'[certificate.c]\nchain = "{self.certificate.chain}"\nkey = "{self.certificate.key}"\n'
            f'[service.web]\nlisten = ["127.0.0.1:{self.port}"]\ncertificates = ["c"]\nktls = "never"\n'
            f'[service.web.worker]\ncommand = {json.dumps(command)}\nuser = "www-data"\n'
            f"read_only = {json.dumps(read_only)}\n{lines}\n")
        return self.enterContext(broker)

    def test_strict_file_worker(self):
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o755)
            content = os.urandom(2**20)
            with open(os.path.join(root, "data"), "wb") as file:
                file.write(content)
            broker = self.serve([testlib.program("examples/file-worker"), root], [root, testlib.program("client-lib")],
                                'profile = "strict"')
            got = subprocess.run(["curl", "-sS", "-4", "--cacert", self.certificate.chain,
                                  f"https://localhost:{self.port}/data"],
                                 capture_output=True, check=True, timeout=30 * testlib.PATIENCE).stdout
            self.assertEqual(got, content)
            with open(f"/proc/{broker.processes()['worker'][0]}/status", encoding="ascii") as file:
                self.assertIn("Seccomp_filters:\t2", file.read())

    def test_strict_python_worker(self):
        worker = os.path.join(testlib.SOURCE, "examples/python-worker/worker.py")
        self.serve([PYTHON, worker], [worker], 'profile = "strict"')
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) as tls:
            lines = tls.makefile("rwb")
            self.assertIn(b"relay", lines.readline())
            lines.write(b"hello\n")
            lines.flush()
            self.assertEqual(lines.readline(), b"hello\n")

    def test_limits(self):
        service = self.enterContext(echo_service.EchoService({"echo": "never"}, worker_lines=(
            'limits = { memory = "256M", processes = 5000, files = 200, cpu = "1h" }')))
        service.ask()
        worker = service.processes()["worker"][0]
        with open(f"/proc/{worker}/limits", encoding="ascii") as file:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        for limit, value in (("Max data size", 256 * 2**20), ("Max processes", 5000), ("Max open files", 200),
                             ("Max cpu time", 3600), ("Max core file size", 0)):
            self.assertEqual(limits[limit], [str(value)] * 2, limit)

    def test_who_takes_too_much_memory_is_stopped(self):
        service = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, worker_lines='limits = { memory = "128M" }'))
        with service.connect() as tls:
            tls.sendall(f"SOURCE {512 * 2**20} x\n".encode())
            self.assertEqual(testlib.ending(tls.recv), "cut", "and no answer")
        self.assertTrue(service.ask(), "others are served")

    def test_who_computes_too_long_is_ended(self):
        service = self.enterContext(echo_service.EchoService({"echo": "never"}, worker_lines='limits = { cpu = "1s" }'))
        with service.connect() as tls:
            tls.sendall(b"SPIN\n")
            service.wait_for_log(r"ended role=worker .*signal=(24|9)", timeout=20)
            self.assertEqual(testlib.ending(tls.recv), "cut")
        self.assertTrue(service.ask(timeout=30))


if __name__ == "__main__":
    unittest.main()
