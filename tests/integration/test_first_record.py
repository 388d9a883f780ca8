# SPDX-License-Identifier: Apache-2.0
"""What a handshaker answers to what is no TLS, or no lawful handshake: the alert that openssl s_server has for it, then an end, not
a reset; and how the log names it."""

import contextlib
import re
import socket
import ssl
import subprocess
import unittest

import broker as testlib
import echo_service

# What the client goes on sending when the alert is on its way.
REST = bytes(200_000)
FATAL, UNEXPECTED_MESSAGE, RECORD_OVERFLOW, PROTOCOL_VERSION = 2, 10, 22, 70

BEGINNINGS = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", UNEXPECTED_MESSAGE, "plain HTTP"),
    "proxied": (b"CONNECT x:443 HTTP/1.1\r\n\r\n", UNEXPECTED_MESSAGE, "a request to an HTTP proxy"),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNEXPECTED_MESSAGE, "plain HTTP/2"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", UNEXPECTED_MESSAGE, "SSH"),
    "proxy v1": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", UNEXPECTED_MESSAGE, "a PROXY protocol header"),
    "proxy v2": (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", UNEXPECTED_MESSAGE, "a PROXY protocol header"),
    "smtp": (b"EHLO client.example\r\n", UNEXPECTED_MESSAGE, "plain SMTP"),
    "sslv2": (b"\x80\x2e\x01\x00\x02" + bytes(43), PROTOCOL_VERSION, "an SSLv2 hello"),
    "type": (b"\x18\x03\x01\x00\x05hello", UNEXPECTED_MESSAGE, "no TLS record"),
    "version": (b"\x16\x04\x01\x00\x05hello", PROTOCOL_VERSION, "an unknown version of TLS"),
    "length": (b"\x16\x03\x01\xff\xff", RECORD_OVERFLOW, "a record that is too long"),
}

# In the place of the client's second flight; the record's header is in clear text in both versions.
SECOND_FLIGHTS = {
    "type": b"\x18\x03\x03\x00\x20" + bytes(32),
    "version": b"\x16\x04\x03\x00\x20" + bytes(32),
    "length": b"\x17\x03\x03\x50\x00",
    "not authentic": b"\x17\x03\x03\x00\x20" + bytes(32),
    "no message": b"\x16\x03\x03\x00\x04\x63\x00\x00\x00",
    "empty alert": b"\x15\x03\x03\x00\x00",
    "cut alert": b"\x15\x03\x03\x00\x01\x02",
}


class SServer:
    """openssl s_server with the service's certificate."""

    def __init__(self, certificate):
        self.port = testlib.free_port()
        self._process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", certificate.chain, "-key", certificate.key, "-www"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def __enter__(self):
        testlib.wait_until(self._listens, "s_server listens")
        return self

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def __exit__(self, *unused):
        self._process.kill()
        self._process.wait()


def read_to_end(raw):
    """All bytes up to FIN. A reset is an error."""
    answer = b""
    while data := raw.recv(65536):
        answer += data
    return answer


class FirstRecord(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(echo_service.EchoService({"echo": "never"}))
        cls.port = cls.service.ports["echo"]

    def plain(self):
        raw = socket.create_connection(("127.0.0.1", self.port), 20 * testlib.PATIENCE)
        self.addCleanup(raw.close)
        return raw

    def failure(self, raw, start):
        """The log line of that client's handshake, as a dictionary."""
        peer = "{}:{}".format(*raw.getsockname())
        line = self.service.wait_for_log(rf"handshake failed .*peer={re.escape(peer)} .*", start=start).group()
        return {key: quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', line)}

    def test_each_beginning_has_its_alert_and_its_name(self):
        for name, (piece, alert, what) in BEGINNINGS.items():
            with self.subTest(name):
                start, raw = len(self.service.log), self.plain()
                raw.sendall(piece + REST)
                self.assertEqual(read_to_end(raw), bytes((21, 3, 3, 0, 2, FATAL, alert)))
                said = self.failure(raw, start)
                self.assertEqual((said["service"], said["why"], said["detail"]), ("echo", "no-tls", what))

    def test_who_says_nothing(self):
        start, raw = len(self.service.log), self.plain()
        raw.shutdown(socket.SHUT_WR)
        self.assertEqual(read_to_end(raw), b"")
        self.assertEqual(self.failure(raw, start)["why"], "closed-at-once")

    def test_who_goes_in_the_middle(self):
        start, raw = len(self.service.log), self.plain()
        raw.sendall(b"\x16\x03")
        raw.shutdown(socket.SHUT_WR)
        self.assertEqual(read_to_end(raw), b"")
        self.assertEqual(self.failure(raw, start)["why"], "peer-gone")

    def test_a_client_that_does_not_trust_us(self):
        start = len(self.service.log)
        with self.assertRaises(ssl.SSLCertVerificationError), socket.create_connection(("127.0.0.1", self.port)) as raw:
            ssl.create_default_context().wrap_socket(raw, server_hostname="some.test")
        line = self.service.wait_for_log(r"handshake failed .*", start=start).group()
        self.assertRegex(line, r'sni=some\.test why=tls detail="tlsv1 alert unknown ca"')

    def test_second_flights_have_the_alerts_of_s_server(self):
        with SServer(self.service.certificates[0]) as server:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                for name, flight in SECOND_FLIGHTS.items():
                    with self.subTest(version=version.name, flight=name):
                        self.assertEqual(self.alert(self.port, version, flight), self.alert(server.port, version, flight))

    def alert(self, port, version, flight):
        """What a client says about the answer to such a second flight."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.service.context(version).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", port), 20 * testlib.PATIENCE) as raw:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            raw.sendall(outgoing.read())
            while outgoing.pending == 0:  # until the client has its own second flight
                incoming.write(raw.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
            raw.sendall(flight + REST)
            incoming.write(read_to_end(raw))
            incoming.write_eof()
        try:
            tls.do_handshake()
            return tls.read(1)
        except ssl.SSLError as error:
            return error.reason


class Silence(unittest.TestCase):
    def test_is_named(self):
        service = self.enterContext(echo_service.EchoService({"echo": "never"}, broker_lines='handshake_timeout = "1s"'))
        with socket.create_connection(("127.0.0.1", service.ports["echo"]), 20 * testlib.PATIENCE) as raw:
            self.assertEqual(read_to_end(raw), b"")
            service.wait_for_log(r"handshake failed .* why=silence ")

    def test_a_flood_of_failures_does_not_fill_the_log(self):
        """What is not logged is counted in the next line."""
        service = self.enterContext(echo_service.EchoService({"echo": "never"}))
        made = 0

        def fail():
            nonlocal made
            with socket.create_connection(("127.0.0.1", service.ports["echo"]), 20 * testlib.PATIENCE) as raw:
                raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertEqual(len(read_to_end(raw)), 7)
            made += 1

        def accounted_for():
            fail()
            lines = [line for line in service.log if "handshake failed" in line]
            return len(lines) + sum(int(n) for line in lines for n in re.findall(r"not_logged=(\d+)", line)) == made

        for _ in range(300):
            fail()
        testlib.wait_until(accounted_for, "all failures are logged or counted")


if __name__ == "__main__":
    testlib.main()
