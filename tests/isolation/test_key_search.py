# SPDX-License-Identifier: Apache-2.0
"""After 500 handshakes the private numbers of the keys are in the keyholder, and nowhere else."""

import os
import shutil
import ssl
import subprocess
import tempfile
import types
import unittest

import broker as testlib
import key_search

HANDSHAKES = 500
PASSPHRASE = "nobody remembers this one"
KINDS = ("rsa", "ec256", "ec384", "ed25519")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def two_files(certificate):
    return f'chain = "{certificate.chain}"\nkey = "{certificate.key}"\n'


def configuration(directory, certificates, ports, lines=two_files):
    text = '[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n'
    for kind, port in ports.items():
        text += f"""
[certificate.{kind}]
{lines(certificates[kind])}
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
        """{kind of key: which parts of it are in the memory of these processes}."""
        return {kind: [hit for pid in pids for hit in key_search.search(pid, self.secrets[kind])]
                for kind in KINDS}

    def test_only_the_keyholder_has_keys(self):
        self.look(two_files, HANDSHAKES)

    def test_keys_that_are_in_one_file_with_their_chain(self):
        """Or that have a passphrase: who splits and decrypts the file is the keyholder, too."""
        word = os.path.join(self.directory, "word")
        with open(word, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(PASSPHRASE + "\n")

        def lines(certificate):
            openssl = ["openssl", *{
                "rsa": ["pkcs12", "-export", "-passout", f"file:{word}", "-inkey", certificate.key, "-in", certificate.chain],
                "ec256": ["ec", "-aes128", "-passout", f"file:{word}", "-in", certificate.key],
                "ec384": ["pkcs8", "-topk8", "-passout", f"file:{word}", "-in", certificate.key],
            }.get(certificate.kind, ["pkey", "-in", certificate.key]), "-out", certificate.key + ".new"]
            subprocess.run(openssl, check=True, capture_output=True, timeout=60 * testlib.PATIENCE)
            if certificate.kind == "ec384":
                return f'chain = "{certificate.chain}"\nkey = "{certificate.key}.new"\npassphrase = "{word}"\n'
            if certificate.kind != "rsa":
                with open(certificate.key + ".new", "a", encoding="ascii") as file, \
                        open(certificate.chain, encoding="ascii") as chain:
                    file.write(chain.read())
            return f'pem = "{certificate.key}.new"\npassphrase = "{word}"\n'

        self.look(lines, 40, [PASSPHRASE.encode()])

    def look(self, lines, handshakes, words=()):
        """`words` are to be in no process at all."""
        self.secrets = {kind: key_search.Secrets(self.certificates[kind].key) for kind in KINDS}
        config = configuration(self.directory, self.certificates, self.ports, lines)
        with testlib.Broker(config) as broker:
            self.handshakes(handshakes)
            processes = broker.processes()
            if key_search.sanitized(broker.process.pid):
                self.skipTest("the memory of a sanitized build is too large to be read")
            self.assertEqual({role: len(pids) for role, pids in processes.items()},
                             {"supervisor": 1, "logger": 5, "keyholder": 4, "handshaker": 4, "worker": 4, "porter": 1})
            keyholders = {p["service"]: p["pid"] for p in broker.status()["processes"] if p["role"] == "keyholder"}
            self.assertEqual(sorted(keyholders.values()), sorted(processes.pop("keyholder")))
            for word in words:
                everywhere = [*keyholders.values(), *(pid for pids in processes.values() for pid in pids)]
                self.assertEqual([hit for pid in everywhere for hit in key_search.search(pid, types.SimpleNamespace(patterns={word: "a word"}))], [])
            holder = {}
            for service, pid in keyholders.items():
                found = self.found([pid])
                holder[service] = found.pop(service)
                self.assertNotEqual(holder[service], [], f"the search does not find {service} in its keyholder")
                self.assertEqual(found, {kind: [] for kind in KINDS if kind != service}, "keys of other services")
            for role, pids in processes.items():
                self.assertEqual(self.found(pids), {kind: [] for kind in KINDS}, role)
        print(f"after {handshakes} handshakes:",
              ", ".join(f"{kind} {len(hits)} hits" for kind, hits in holder.items()),
              "in its own keyholder, 0 in all others")
