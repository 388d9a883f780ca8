# SPDX-License-Identifier: Apache-2.0
"""The traffic secrets of direct connections, which the client's key log has, are in no process of the broker after the hand-off,
and never in a worker. The same search finds them in the client."""

import os
import re
import ssl
import sys
import unittest

import broker as testlib
import echo_service

sys.path.append(os.path.join(testlib.SOURCE, "tests/isolation"))
import key_search  # noqa: E402

CONNECTIONS = 6
# The kernel's keys are derived from these; CLIENT_RANDOM is the line with the master secret of TLS 1.2.
LABELS = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "CLIENT_RANDOM")


class Secrets:
    """The secrets in the form that key_search.search() takes."""

    def __init__(self, keylog):
        self.patterns = {}
        with open(keylog, encoding="ascii") as file:
            for label, secret in re.findall(r"^(\w+) \w+ (\w+)$", file.read(), re.M):
                if label in LABELS:
                    self.patterns[bytes.fromhex(secret)[:16]] = label


class SecretSearch(unittest.TestCase):
    def setUp(self):
        echo_service.require_ktls()

    def test_they_are_gone(self):
        service = self.enterContext(echo_service.EchoService({"echo": "require"}))
        keylog = os.path.join(service.home, "keylog")
        held = []
        self.addCleanup(lambda: [tls.close() for tls in held])
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = service.context(version)
            context.keylog_filename = keylog
            for _ in range(CONNECTIONS):
                held.append(service.connect(context=context))
                held[-1].sendall(b"WHO\n")
                self.assertIn(b'"direct"', held[-1].recv(4096))
        secrets = Secrets(keylog)
        self.assertGreaterEqual(len(secrets.patterns), CONNECTIONS * 3)
        found = key_search.search(os.getpid(), secrets)
        self.assertNotEqual(found, [], "the search works")
        print(f"\n  {len(secrets.patterns)} secrets: {len(found)} hits in the client,", end="")
        for role, pids in service.processes().items():
            hits = [hit for pid in pids for hit in key_search.search(pid, secrets)]
            print(f" {len(hits)} in {role},", end="")
            self.assertEqual(hits, [], role)


if __name__ == "__main__":
    unittest.main()
