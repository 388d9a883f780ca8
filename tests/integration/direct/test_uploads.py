# SPDX-License-Identifier: Apache-2.0
"""A client that writes, ends and closes without reading, where the kernel does the records. The program gets all that the
client's kernel has sent. With a ticket unread that is less than the client has written; a packet trace says whose doing it is."""

import ssl
import unittest

import echo_service
import memory_client
import packets
from upload_cases import DATA, UploadService, data_on_the_wire, service_name

KINDS = ("daemon", "library")  # `exec` ends its program when the connection is cut
SIZE = 1_000_000


class Uploads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        cls.service = cls.enterClassContext(UploadService("require", KINDS))

    def upload(self, kind, tickets, version=ssl.TLSVersion.TLSv1_3, size=SIZE):
        """What the program says, and what the client's kernel has sent."""
        service, start = service_name(kind, tickets), len(self.service.log)
        with packets.Trace() as trace:
            with memory_client.Client(self.service, version, service) as client:
                port = client.raw.getsockname()[1]
                client.send(DATA[:size])
                client.end()
            upload, = self.service.uploads(service, start, 1)
            return upload, trace.senders()[port, self.service.ports[service]]

    def test_all_comes_without_tickets(self):
        for kind in KINDS:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.subTest(kind=kind, version=version.name):
                    upload, _ = self.upload(kind, 0, version)
                    self.assertTrue(upload.whole(SIZE), upload.size)

    def test_all_comes_that_the_client_has_sent(self):
        """A close with the ticket unread is a reset, and the kernel throws away what it has not sent (tcp_close() in
        net/ipv4/tcp.c): most of a large upload, and perhaps the end of a small one, if Nagle's algorithm holds it back."""
        for kind in KINDS:
            for size in (20_000, SIZE):
                with self.subTest(kind=kind, size=size):
                    upload, sent = self.upload(kind, 1, size=size)
                    on_the_wire, ended = data_on_the_wire(sent.stream)
                    print(f"{kind}: {size} bytes written, {on_the_wire} sent; {upload.size} have come, and then",
                          "the end" if upload.ended else "a cut")
                    self.assertTrue(sent.flags & packets.RST)
                    self.assertTrue(upload.right)
                    self.assertEqual((upload.size, upload.ended), (on_the_wire, ended))


if __name__ == "__main__":
    unittest.main()
