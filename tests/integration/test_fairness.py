"""One handshaker, and a client and a worker that move as much as they can: the others have their turns all the same."""

import os
import subprocess
import sys
import tempfile
import unittest

import broker as testlib

sys.path.append(os.path.join(testlib.SOURCE, "tests/bench"))
import subjects  # noqa: E402


class Fairness(unittest.TestCase):
    def bulk(self, kind, port):
        """bench-load, at work until the test ends it."""
        load = subprocess.Popen([testlib.program("tests/bench/bench-load"), kind, str(port), "--count", str(2**40)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for end in (load.stdin.close, load.stdout.close, load.wait, load.kill):
            self.addCleanup(end)
        self.assertEqual(load.stdout.readline(), b"ready\n")
        load.stdin.write(b"\n")
        load.stdin.flush()
        return load

    def test_others_beside_bulk(self):
        directory = self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-test-"))
        os.chmod(directory, 0o755)
        certificate = testlib.Certificate(directory)
        for kind in ("receive", "send"):
            # A worker of this kind has one connection at a time.
            with self.subTest(kind=kind), subjects.Broker(kind, certificate, "never", handshakers=1,
                                                          lines="count = 4") as service:
                bulk = self.bulk(kind, service.port)
                with subjects.Load(service, "handshake", count=20) as others:
                    others.go()
                self.assertIsNone(bulk.poll(), "it goes on")
                bulk.kill()


if __name__ == "__main__":
    unittest.main()
