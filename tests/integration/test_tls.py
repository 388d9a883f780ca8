# SPDX-License-Identifier: Apache-2.0
"""What a client can get: the certificate by name and by key type, protocols, versions; and what no client gets."""

import json
import re
import ssl
import subprocess
import unittest

import broker as testlib
import echo_service

KINDS = {"ec256": "EC256", "ec384": "EC384", "rsa": "RSA2048", "ed25519": "ED25519"}


def certificates(home):
    made = [testlib.Certificate(home)]  # the default one
    made += [testlib.Certificate(home, kind, f"{kind}.test") for kind in KINDS]
    made += [testlib.Certificate(home, kind, "both.test") for kind in ("ec256", "rsa")]
    made += [testlib.Certificate(home, "ec256", "*.wild.test")]
    made[-1].key = "file:" + made[-1].key  # read by OSSL_STORE
    return made


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(echo_service.EchoService(
            {"echo": "prefer", "modern": "prefer", "old": "prefer", "plain": "prefer"}, certificates=certificates,
            lines={"echo": 'alpn = ["h2", "http/1.1"]', "modern": 'policy = "modern"', "old": 'policy = "tls12"'}))
        cls.by_name = {(c.name, c.kind): c for c in cls.broker.certificates}

    def context(self, version=None, alpn=()):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def shown(self, name, **options):
        """The certificate that is shown to a client that asks for `name`, and what the worker is told."""
        with self.broker.connect(context=self.context(**options), server_name=name) as tls:
            tls.sendall(b"WHO\n")
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)), json.loads(tls.makefile("rb").readline())

    def s_client(self, *options, service="echo", command=b"WHO\n"):
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.broker.ports[service]}", *options], input=command,
            capture_output=True, timeout=20 * testlib.PATIENCE, check=False)

    def assert_shown(self, pem, name, kind="ec256"):
        with open(self.by_name[name, kind].chain, encoding="ascii") as file:
            self.assertEqual(pem, file.read())

    def test_each_key_type_with_both_versions(self):
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            for kind, algorithm in KINDS.items():
                with self.subTest(version=version.name, kind=kind):
                    pem, told = self.shown(f"{kind}.test", version=version)
                    self.assert_shown(pem, f"{kind}.test", kind)
                    self.assertEqual((told["key_algorithm"], told["server_name"]), (algorithm, f"{kind}.test"))

    def test_names(self):
        for asked, name in (("a.wild.test", "*.wild.test"), ("A.WILD.test", "*.wild.test"), ("EC256.Test", "ec256.test"),
                            ("a.b.wild.test", "localhost"), ("wild.test", "localhost"),
                            ("unknown.test", "localhost"), (None, "localhost")):
            with self.subTest(asked=asked):
                self.assert_shown(self.shown(asked)[0], name)

    def test_key_type_by_what_the_client_can(self):
        for version in ("-tls1_2", "-tls1_3"):
            for algorithm, kind in (("ECDSA+SHA256", "ec256"), ("RSA-PSS+SHA256", "rsa")):
                with self.subTest(version=version, algorithm=algorithm):
                    done = self.s_client(version, "-servername", "both.test", "-sigalgs", algorithm)
                    pem = re.search(rb"-----BEGIN.*?END CERTIFICATE-----\n", done.stdout, re.S).group()
                    self.assert_shown(pem.decode(), "both.test", kind)

    def test_alpn_is_chosen_in_our_order(self):
        self.assertEqual(self.shown("localhost", alpn=["http/1.1", "h2"])[1]["alpn"], "h2")
        self.assertEqual(self.shown("localhost", alpn=["http/1.1"])[1]["alpn"], "http/1.1")
        self.assertNotIn("alpn", self.shown("localhost")[1])

    def test_no_common_protocol_is_refused(self):
        with self.assertRaisesRegex(ssl.SSLError, "no application protocol"):
            self.shown("localhost", alpn=["gopher"])

    def test_protocols_of_a_service_without_a_list_are_ignored(self):
        told = json.loads(self.broker.ask(service="plain", context=self.context(alpn=["gopher"])))
        self.assertNotIn("alpn", told)

    def test_modern_is_tls_1_3_alone(self):
        context = self.context(version=ssl.TLSVersion.TLSv1_2)
        with self.assertRaisesRegex(ssl.SSLError, "PROTOCOL_VERSION"):
            self.broker.ask(service="modern", context=context)
        self.assertEqual(json.loads(self.broker.ask(service="modern", context=self.context()))["version"], "TLSv1.3")

    def test_tls12_is_tls_1_2_alone(self):
        for version, works in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False), (None, True)):
            with self.subTest(version=version):
                if not works:
                    with self.assertRaisesRegex(ssl.SSLError, "PROTOCOL_VERSION"):
                        self.broker.ask(service="old", context=self.context(version))
                    continue
                told = json.loads(self.broker.ask(service="old", context=self.context(version)))
                self.assertEqual(told["version"], "TLSv1.2")

    def test_old_versions_are_refused(self):
        for version in ("-tls1", "-tls1_1"):
            done = self.s_client(version, "-cipher", "DEFAULT@SECLEVEL=0")
            self.assertIn(b"alert protocol version", done.stderr)

    def test_old_suites_are_refused(self):
        for suite in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            done = self.s_client("-tls1_2", "-cipher", suite)
            self.assertIn(b"alert handshake failure", done.stderr, suite)

    def test_groups(self):
        for group, name in (("X25519", "x25519"), ("P-256", "secp256r1"), ("P-384", "secp384r1")):
            done = self.s_client("-groups", group, "-quiet", "-nocommands", command=b"WHO\nEND\n")
            self.assertEqual(json.loads(done.stdout)["group"], name)
        self.assertIn(b"alert handshake failure", self.s_client("-groups", "P-521").stderr)

    def test_no_renegotiation(self):
        done = self.s_client("-tls1_2", command=b"R\nWHO\n")
        self.assertIn(b"no renegotiation", done.stderr)

    def test_no_early_data_and_no_compression(self):
        done = self.s_client("-tls1_3")
        self.assertIn(b"Early data was not sent", done.stdout)
        self.assertNotRegex(done.stdout, rb"Max Early Data: [1-9]")
        self.assertIn(b"Compression: NONE", self.s_client("-tls1_2", "-comp").stdout)

    def test_no_client_certificate_is_asked_for(self):
        self.assertIn(b"No client certificate CA names sent", self.s_client().stdout)


if __name__ == "__main__":
    unittest.main()
