# SPDX-License-Identifier: Apache-2.0
"""Every TLS version and suite, full and resumed, against other people's clients: 8 MiB go each way through kernel TLS, and both
ends compute the same hashes."""

import concurrent.futures
import hashlib
import os
import re
import subprocess
import unittest
from dataclasses import dataclass

import broker as testlib
import echo_service
import echo_worker

SIZE = 8 * 2**20
SEED = "interop"
TIMEOUT = 60 * testlib.PATIENCE
BUFFERED_STDOUT = testlib.program("tests/interop/libbuffered-stdout.so")


@dataclass(frozen=True)
class Combination:
    version: str
    openssl: str  # OpenSSL's name of the suite, which is also what the broker logs
    gnutls: str  # GnuTLS' name of the cipher
    certificate: str = "ec256"

    def __str__(self):
        return f"{self.version} {self.openssl}"


COMBINATIONS = (
    Combination("TLSv1.3", "TLS_AES_128_GCM_SHA256", "AES-128-GCM"),
    Combination("TLSv1.3", "TLS_AES_256_GCM_SHA384", "AES-256-GCM"),
    Combination("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    Combination("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM"),
    Combination("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM"),
    Combination("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305"),
    Combination("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "AES-128-GCM", "rsa"),
)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        cls.service = cls.enterClassContext(echo_service.EchoService(kinds=("ec256", "rsa")))
        cls.port = cls.service.ports["echo"]
        cls.sent = echo_worker.source(SIZE, "sent")
        cls.sent_hash = hashlib.sha256(cls.sent).hexdigest()
        cls.expected = echo_worker.source(SIZE, SEED)
        cls.expected_hash = hashlib.sha256(cls.expected).hexdigest()
        script = b"WHO\nSINK %d\n" % SIZE + cls.sent + f"SOURCE {SIZE} {SEED}\nEND\n".encode()
        cls.script, cls.body = cls.file("script"), cls.file("body")
        for path, content in ((cls.script, script), (cls.body, cls.sent)):
            with open(path, "wb") as file:
                file.write(content)

    @classmethod
    def file(cls, name):
        return os.path.join(cls.service.home, re.sub(r"[^\w.-]", "_", str(name)))

    def each_combination(self, exchange, combinations=COMBINATIONS):
        """Runs two clients at a time. The kernel must have counted as many connections as the broker calls direct."""
        start, before = len(self.service.log), echo_service.tls_stat()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            runs = {combination: pool.submit(exchange, combination) for combination in combinations}
        for combination, run in runs.items():
            with self.subTest(combination=str(combination)):
                run.result()
        after = echo_service.tls_stat()
        direct = sum(" mode=direct" in line for line in self.service.log[start:])
        self.assertGreaterEqual(direct, 2 * len(combinations))
        for counter in ("TlsTxSw", "TlsRxSw"):
            self.assertEqual(after[counter] - before[counter], direct, counter)
        for counter in ("TlsDecryptError", "TlsTxRekeyError", "TlsRxRekeyError"):
            self.assertEqual(after.get(counter, 0), before.get(counter, 0), counter)

    def check_description(self, told, combination, resumed):
        """Checks what the worker was told, and what the log says of the same connection."""
        logged = self.service.log_fields(told["conn"])
        wanted = {"mode": "direct", "cipher": combination.openssl}
        self.assertEqual({**told, **wanted, "version": combination.version, "resumed": resumed}, told)
        self.assertNotIn("reason", told)
        wanted |= {"proto": combination.version, "resumed": "yes" if resumed else "no", "ktls": "tx,rx"}
        self.assertEqual({**logged, **wanted}, logged)

    def check_answer(self, answer, combination, resumed):
        """Checks the answer to the script."""
        told, rest = echo_service.who(answer)
        self.check_description(told, combination, resumed)
        received, _, rest = rest.partition(b"\n")
        self.assertEqual(received.decode(), self.sent_hash)
        self.check_body(rest[:SIZE])
        self.assertEqual(rest[SIZE:].decode().strip(), self.expected_hash)

    def check_body(self, body):
        self.assertEqual(len(body), SIZE)
        self.assertTrue(body == self.expected, "the body differs from what was sent")

    def run_client(self, command, **options):
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, **options)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stderr.decode()[-2000:]}")
        return done.stdout

    def openssl(self, combination):
        versions = {"TLSv1.3": ["-tls1_3", "-ciphersuites"], "TLSv1.2": ["-tls1_2", "-cipher"]}
        session = self.file(f"session-{combination}")
        for resumed, option in ((False, "-sess_out"), (True, "-sess_in")):
            command = ["openssl", "s_client", "-quiet", "-nocommands", "-connect",
                       f"127.0.0.1:{self.port}", "-servername", "localhost", "-CAfile",
                       self.service.trusted, "-verify_return_error", *versions[combination.version],
                       combination.openssl, option, session]
            with open(self.script, "rb") as script:
                self.check_answer(self.run_client(command, stdin=script), combination, resumed)

    def gnutls(self, combination):
        priority = (f"NORMAL:-VERS-ALL:+VERS-{combination.version.replace('v', '')}"
                    f":-CIPHER-ALL:+{combination.gnutls}")
        if combination.certificate == "rsa":
            priority += ":-KX-ALL:+ECDHE-RSA"
        elif combination.version == "TLSv1.2":
            priority += ":-KX-ALL:+ECDHE-ECDSA"
        command = ["gnutls-cli", "--port", str(self.port), "--sni-hostname", "localhost",
                   "--verify-hostname", "localhost", "--x509cafile", self.service.trusted,
                   "--priority", priority, "--logfile", self.file(f"gnutls-{combination}"), "127.0.0.1"]
        for resumed, options in ((False, []), (True, ["--resume", "--waitresumption"])):
            self.check_answer(self.talk(command + options), combination, resumed)

    def talk(self, command):
        """gnutls-cli stops at the end of its input, so its input stays open until the answer is complete."""
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              env=dict(os.environ, LD_PRELOAD=BUFFERED_STDOUT)) as client:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                answer = pool.submit(client.stdout.read)
                try:
                    with open(self.script, "rb") as script:
                        client.stdin.write(script.read())
                    client.stdin.flush()
                    return answer.result(TIMEOUT)
                finally:
                    client.kill()

    def curl(self, combination):
        """Two transfers in one process: the second connection resumes the session of the first.
        With TLS 1.2 it does not: curl takes no tickets then (SSL_OP_NO_TICKET), and the broker has no other way to resume."""
        version = combination.version.replace("TLSv", "")
        ciphers = "--tls13-ciphers" if version == "1.3" else "--ciphers"
        url = f"https://localhost:{self.port}/{SIZE}/{SEED}"
        outputs = [self.file(f"curl-{combination}-{number}") for number in (1, 2)]
        command = ["curl", "-sS", "--http1.1", "-4", "--cacert", self.service.trusted,
                   f"--tlsv{version}", "--tls-max", version, ciphers, combination.openssl,
                   "-H", "Expect:", "-w", "%header{x-received} %header{x-connection}\n"]
        for output in outputs:
            command += ["-T", self.body, "-o", output, url]
        lines = self.run_client(command).decode().splitlines()
        for output, line, resumed in zip(outputs, lines, (False, version == "1.3"), strict=True):
            received, _, told = line.partition(" ")
            self.assertEqual(received, self.sent_hash)
            self.check_description(echo_service.who(told.encode())[0], combination, resumed)
            with open(output, "rb") as file:
                self.check_body(file.read())
            os.unlink(output)

    def test_openssl(self):
        self.each_combination(self.openssl)

    def test_gnutls(self):
        self.each_combination(self.gnutls)

    def test_curl(self):
        self.each_combination(self.curl)


if __name__ == "__main__":
    testlib.main()
