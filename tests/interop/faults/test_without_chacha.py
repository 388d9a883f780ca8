# SPDX-License-Identifier: Apache-2.0
"""A kernel without ChaCha20-Poly1305 (tests/vm/boot --without-module chacha20poly1305): "require" does not offer
it, "prefer" relays clients that want nothing else."""

import subprocess
import unittest

import broker as testlib
import echo_service

CHACHA = {"-tls1_3": ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
          "-tls1_2": ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]}
BOTH = {"-tls1_3": ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"],
        "-tls1_2": ["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"]}


class WithoutChacha(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        cls.service = cls.enterClassContext(
            echo_service.EchoService({"prefer": "prefer", "require": "require"}))

    def ask(self, name, version, suites):
        """What the hand-off says of the connection, or None if there was no connection."""
        command = ["openssl", "s_client", "-quiet", "-nocommands", "-connect",
                   f"127.0.0.1:{self.service.ports[name]}", "-CAfile", self.service.trusted,
                   "-verify_return_error", version, *suites[version]]
        done = subprocess.run(command, input=b"WHO\nEND\n", capture_output=True, check=False,
                              timeout=15 * testlib.PATIENCE)
        return echo_service.who(done.stdout)[0] if done.stdout else None

    def test_prefer_relays_it_alone(self):
        for version in CHACHA:
            with self.subTest(version=version):
                told = self.ask("prefer", version, CHACHA)
                self.assertEqual((told["mode"], told["reason"][:28]), ("relay", "kernel-no-chacha20-poly1305-"))

    def test_require_refuses_it(self):
        for version in CHACHA:
            with self.subTest(version=version):
                self.assertIsNone(self.ask("require", version, CHACHA))

    def test_what_the_kernel_takes_comes_first(self):
        """A suite that the kernel takes is chosen even if the client prefers ChaCha20."""
        for name in ("prefer", "require"):
            for version in BOTH:
                with self.subTest(service=name, version=version):
                    told = self.ask(name, version, BOTH)
                    self.assertEqual(told["mode"], "direct")
                    self.assertRegex(told["cipher"], "AES_?128")


if __name__ == "__main__":
    testlib.main()
