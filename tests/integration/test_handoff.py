# SPDX-License-Identifier: Apache-2.0
"""What a worker is told of a connection, over IPv4 and IPv6; and the workers of examples/."""

import json
import os
import ssl
import subprocess
import unittest

import broker as testlib
import echo_service
import web_worker

EXAMPLES = os.path.join(testlib.SOURCE, "examples")


class Handoff(unittest.TestCase):
    def test_every_field(self):
        broker = self.enterContext(echo_service.EchoService(
            {"echo": "never"}, hosts=("127.0.0.1", "[::1]")))
        for host in ("127.0.0.1", "::1"):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.subTest(host=host, version=version.name):
                    context = broker.context(version)
                    context.set_alpn_protocols(["http/1.1"])
                    with broker.connect(context=context, host=host) as tls:
                        tls.sendall(b"WHO\n")
                        told = json.loads(tls.makefile("rb").readline())
                        self.assertEqual(told["peer"], list(tls.getsockname()[:2]))
                        self.assertEqual(told["local"], [host, broker.ports["echo"]])
                        self.assertEqual((told["version"], told["cipher"]), (tls.version(), tls.cipher()[0]))
                    self.assertEqual({k: told[k] for k in ("service", "mode", "reason", "alpn", "server_name", "resumed",
                                                           "key_algorithm", "client", "verify")},
                                     {"service": "echo", "mode": "relay", "reason": "ktls-never", "alpn": "http/1.1",
                                      "server_name": "localhost", "resumed": False, "key_algorithm": "EC256",
                                      "client": 1, "verify": 1})
                    self.assertEqual(told["size"], 704)
                    logged = broker.log_fields(told["conn"])
                    self.assertEqual(logged["service"], "echo")
                    self.assertEqual(logged["ktls_reason"], "ktls-never")
                    self.assertIn(str(told["peer"][1]), logged["peer"])

    def test_names_that_are_no_text(self):
        """A stranger chooses the server name: it comes through to the worker, and the log line stays one line."""
        broker = self.enterContext(echo_service.EchoService({"echo": "never"}))
        for name in ("a b", "x=1", "\x1b[31m", "\\\"'", "a\nconnection conn=forged"):
            with self.subTest(name=name):
                done = subprocess.run(
                    ["openssl", "s_client", "-quiet", "-nocommands", "-servername", name, "-connect",
                     f"127.0.0.1:{broker.ports['echo']}"],
                    input=b"WHO\nEND\n", capture_output=True, timeout=20 * testlib.PATIENCE, check=False)
                told = json.loads(done.stdout)
                self.assertEqual(told["server_name"], name)
                line = broker.wait_for_log(rf"connection conn={told['conn']} .*").group()
                self.assertRegex(line, r"^[\x20-\x7e]+$")
                self.assertIn(" mode=relay", line)
        self.assertFalse([line for line in broker.log if line.startswith("connection conn=forged")])


class Examples(web_worker.WebWorker, unittest.TestCase):
    ktls = "never"

    def test_python_worker(self):
        worker = os.path.join(EXAMPLES, "python-worker/worker.py")
        self.serve(["/usr/bin/python3", worker], [worker])
        context = testlib.tls_context(self.certificate)
        with testlib.tls_connect(int(self.url.rpartition(":")[2]), context) as tls:
            lines = tls.makefile("rwb")
            first = lines.readline()
            for part in (b"relay", b"TLSv1.3", b"ktls-never"):
                self.assertIn(part, first)
            for line in (b"one\n", b"another\n"):
                lines.write(line)
                lines.flush()
                self.assertEqual(lines.readline(), line)


if __name__ == "__main__":
    unittest.main()
