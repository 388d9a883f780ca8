# SPDX-License-Identifier: Apache-2.0
"""A tap between client and broker sees TLS records from the first byte to the last, and never the plaintext. Runs on any kernel,
in the mode that it has."""

import ssl
import unittest

import broker as testlib
import echo_service
import wire

MARKER = b"7c1e~ nobody on the wire sees me"  # 32 bytes
PIECE = MARKER * 1000
PIECES = 8


class Wire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not echo_service.kernel_has_tls() and testlib.expects("ktls"):
            raise AssertionError("this kernel has no TLS")
        cls.mode = "direct" if echo_service.kernel_has_tls() else "relay"
        cls.service = cls.enterClassContext(echo_service.EchoService())

    def echo(self, port, context):
        """Has data echoed; returns the connection's mode."""
        with testlib.tls_connect(port, context, timeout=30) as tls, tls.makefile("rwb") as stream:
            stream.write(b"WHO\nECHO %d\n" % (PIECES * len(PIECE)))
            stream.flush()
            told, _ = echo_service.who(stream.readline())
            for _ in range(PIECES):
                stream.write(PIECE)
                stream.flush()
                self.assertTrue(stream.read(len(PIECE)) == PIECE, "the echo is what was sent")
            tls.unwrap()
        return told["mode"]

    def test_records_and_no_plaintext(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version=version.name), wire.Tap(self.service.ports["echo"]) as tap:
                mode = self.echo(tap.port, self.service.context(version))
                self.assertEqual(mode, self.mode)
                self.assertTrue(tap.recordings[0].finished.wait(10 * testlib.PATIENCE))
                for direction, stream in tap.recordings[0].streams().items():
                    found, rest = wire.records(stream)
                    self.assertEqual(rest, b"", f"{direction}: half a record at the end")
                    self.assertGreater(sum(size for _, size in found), PIECES * len(PIECE))
                    self.assertNotIn(MARKER[:16], stream, direction)

    def test_the_tap_sees_plaintext_where_there_is_some(self):
        with self.assertRaises(ValueError):
            wire.records(b"\x17\x03\x03\x00\x01x" + MARKER)


if __name__ == "__main__":
    testlib.main()
