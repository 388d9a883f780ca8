# SPDX-License-Identifier: Apache-2.0
"""The client's Finished, its request and its close_notify arrive in one segment: the handshaker must
not read a byte beyond Finished, or the worker never sees the rest. Runs on any kernel, in the mode that it has."""

import ssl
import unittest

import broker as testlib
import echo_service
import echo_worker
import wire

SIZE = 200_000


class OneSegment(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not echo_service.kernel_has_tls() and testlib.expects("ktls"):
            raise AssertionError("this kernel has no TLS")
        cls.mode = "direct" if echo_service.kernel_has_tls() else "relay"
        cls.service = cls.enterClassContext(echo_service.EchoService())

    def exchange(self, context, session=None):
        """Sends a request together with Finished; returns the client after the exchange, whose session can be resumed, and the
        kinds of records in the segment."""
        port = self.service.ports["echo"]
        with wire.SegmentClient(port, context, session, 15 * testlib.PATIENCE) as client:
            client.handshake()
            client.tls.write(b"WHO\n" + f"SOURCE {SIZE} x\nEND\n".encode())
            client.close_notify()
            segment = client.flush()
            answer, clean = client.read_to_end()
            self.assertTrue(clean, "the answer ends with close_notify")
        told, rest = echo_service.who(answer)
        self.assertEqual(rest[:SIZE], echo_worker.source(SIZE, "x"))
        self.assertEqual(told["mode"], self.mode)
        self.assertEqual(told["resumed"], client.tls.session_reused)
        return client.tls, [kind for kind, _ in wire.records(segment)[0]]

    def test_tls13(self):
        context = self.service.context(ssl.TLSVersion.TLSv1_3)
        full, sent = self.exchange(context)
        self.assertEqual(sent, [20, 23, 23, 23], "CCS, Finished, request, close_notify")
        resumed, sent = self.exchange(context, full.session)
        self.assertTrue(resumed.session_reused)
        self.assertEqual(sent, [20, 23, 23, 23])

    def test_tls12_resumed(self):
        context = self.service.context(ssl.TLSVersion.TLSv1_2)
        full, sent = self.exchange(context)
        self.assertEqual(sent, [23, 21], "the server's Finished comes last: request, close_notify")
        resumed, sent = self.exchange(context, full.session)
        self.assertTrue(resumed.session_reused)
        self.assertEqual(sent, [20, 22, 23, 21], "CCS, Finished, request, close_notify")


if __name__ == "__main__":
    testlib.main()
