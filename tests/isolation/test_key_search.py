"""After 500 handshakes the private numbers of the keys are in the keyholder, and nowhere else."""

import os
import shutil
import ssl
import tempfile
import unittest

import broker as testlib
import key_search

HANDSHAKES = 500
KINDS = ("rsa", "ec256", "ec384", "ed25519")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def configuration(directory, certificates, ports):
    text = '[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\nhandshakers = 2\n'
    for kind, port in ports.items():
        text += f"""
[certificate.{kind}]
chain = "{certificates[kind].chain}"
key = "{certificates[kind].key}"
[service.{kind}]
listen = ["127.0.0.1:{port}"]
certificates = ["{kind}"]
[service.{kind}.worker]
command = ["{directory}/worker"]
user = "daemon"
"""
    return text


@unittest.skipUnless(os.geteuid() == 0, "needs root to read memory")
class KeySearch(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="tlsbroker-keys-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        shutil.copy(f"{testlib.SOURCE}/tests/testlib/answering_worker.py", f"{self.directory}/worker")
        self.certificates = {k: testlib.Certificate(self.directory, k) for k in KINDS}
        self.ports = {kind: testlib.free_port() for kind in KINDS}

    def connect(self, kind, version):
        context = testlib.tls_context(self.certificates[kind], version)
        with testlib.tls_connect(self.ports[kind], context) as connection:
            connection.sendall(b"hello?\n")
            self.assertEqual(connection.recv(100), b"hello\n")
            self.assertEqual(connection.recv(100), b"")

    def handshakes(self, count):
        for number in range(count):
            self.connect(KINDS[number % 4], VERSIONS[number // 4 % 2])

    def found(self, pids):
        """{kind of key: what of it is in the memory of these processes}."""
        return {kind: [hit for pid in pids for hit in key_search.search(pid, self.secrets[kind])]
                for kind in KINDS}

    def test_only_the_keyholder_has_keys(self):
        self.secrets = {kind: key_search.Secrets(self.certificates[kind].key) for kind in KINDS}
        config = configuration(self.directory, self.certificates, self.ports)
        with testlib.Broker(config) as broker:
            self.handshakes(HANDSHAKES)
            processes = broker.processes()
            if key_search.sanitized(broker.process.pid):
                self.skipTest("the memory of a sanitized build is too large to be read")
            self.assertEqual({role: len(pids) for role, pids in processes.items()},
                             {"supervisor": 1, "keyholder": 1, "handshaker": 2, "worker": 4})
            holder = self.found(processes.pop("keyholder"))
            for kind, hits in holder.items():
                self.assertNotEqual(hits, [], f"the search does not find {kind} in the keyholder")
            for role, pids in processes.items():
                self.assertEqual(self.found(pids), {kind: [] for kind in KINDS}, role)
        print(f"after {HANDSHAKES} handshakes:",
              ", ".join(f"{kind} {len(hits)} hits" for kind, hits in holder.items()),
              "in the keyholder, 0 in all others")
