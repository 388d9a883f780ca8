# SPDX-License-Identifier: Apache-2.0
"""A handshaker or the keyholder of a running broker is taken over: what can it still do? The full list of what is forbidden is in
role_attempts_test.cc; here the real processes try, with what they really hold."""

import errno
import os
import platform
import select
import socket
import struct
import time
import unittest

import broker as testlib
import echo_service
import takeover
from takeover import Killed, Taken

# protocol/signing.h
CERTIFICATE, CONTENT, SCHEME, RATE = 1, 2, 3, 4
ECDSA_P256, RSA_PKCS1 = 0x0403, 0x0401
# protocol/supervision.h and supervision_fields.h
CONNECTED, CONNECT = 12, 22
REQUEST, UPSTREAM, ERROR = 1, 2, 2
SOL_TCP, TCP_CORK, TCP_USER_TIMEOUT, SO_KEEPALIVE = 6, 3, 18, 9
SOL_SOCKET, SO_ATTACH_FILTER, SO_LOCK_FILTER = 1, 26, 44
SHUT_RD, SHUT_WR, SHUT_RDWR = range(3)
F_SETFL = 4
TLS13_SERVER = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
# What a ServerKeyExchange signs, RFC 8446 section 4.1.3 and RFC 8422 section 5.4: identifiers of groups, the first byte of the
# share if it is always the same, and the length of its rest.
DOWNGRADE = b"DOWNGRD\1"
X25519, P256, P384, P521 = (29, b"", 32), (23, b"\4", 64), (24, b"\4", 96), (25, b"\4", 132)


def parameters(group):
    identifier, first, rest = group
    return struct.pack("!BHB", 3, identifier, len(first) + rest) + first


def tls12_server(group):
    return bytes(56) + DOWNGRADE + parameters(group) + b"s" * group[2]


def message(kind, body):
    return struct.pack("!BBH", kind, 0, len(body)) + body


HELLO = b"\3\3" + bytes(200)
TLS12_CLIENT = b"".join(message(*each) for each in (
    (1, HELLO), (2, HELLO), (11, bytes(64)), (12, parameters(X25519) + bytes(32) + b"\4\3\0\x40" + bytes(64)), (13, bytes(64)),
    (14, b""), (11, bytes(64)), (16, b"\x20" + bytes(32))))


def der(tag, *parts):
    content = b"".join(parts)
    return bytes([tag]) + (bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])) + content


def certificate(group):
    """The part of an X.509 certificate that is signed, with the name and the key of our choice, in the shape of a
    ServerKeyExchange: the parameters of the group are the end of its serial number."""
    name = b"localhost" if group == P521 else b""
    distinguished = der(0x30, der(0x31, der(0x30, der(6, b"\x55\4\3"), der(12, name)))) if name else der(0x30)
    rest = (der(0x30, der(6, bytes.fromhex("2a8648ce3d040302"))), distinguished,
            der(0x30, der(0x17, b"260101000000Z"), der(0x17, b"460101000000Z")), distinguished,
            der(0x30, der(0x30, der(6, bytes.fromhex("2b6570"))), der(3, bytes(33))))
    serial = b"\1" * 46 + DOWNGRADE + parameters(group)  # ends behind the parameters, which begin at 64
    made = der(0x30, der(0xa0, der(2, b"\2")), der(2, serial), *rest, *([der(0xa3, b"\0\0")] if not name else []))
    assert made[56:64 + len(parameters(group))] == DOWNGRADE + parameters(group), made.hex()
    assert len(made) == len(tls12_server(group)), (len(made), len(tls12_server(group)))
    return made


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def sign_request(certificate, scheme, content, number=7):
    request = (b"\1" + tlv(1, struct.pack("!I", number)) + tlv(2, struct.pack("!H", certificate)) +
               tlv(3, struct.pack("!H", scheme)) + tlv(4, content))
    return struct.pack("!I", len(request)) + request


class SigningChannel:
    """The channel of a handshaker that is taken over: requests and answers in frames of protocol/pipe.h."""

    def __init__(self, process, keyholder):
        self.process = process
        self.requests, self.answers = takeover.pipes_to(process.pid, keyholder)

    def ask(self, *request):
        data = sign_request(*request)
        self.process.store(data)
        assert self.process.call(takeover.WRITE, self.requests, self.process.scratch, len(data)) == len(data)
        return testlib.wait_until(self.answer, "an answer", timeout=5)

    def answer(self):
        size = self.process.call(takeover.READ, self.answers, self.process.scratch + 4096, 4096)
        return self.process.load(size, 4096)[4:] if size > 0 else None


@unittest.skipUnless(os.geteuid() == 0 and platform.machine() == "x86_64", "needs root and x86-64")
class Takeover(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}, handshakers=1))
        self.service.ask()
        if testlib.sanitized():
            self.skipTest("a sanitizer's run-time changes what is killed")

    def victim(self, role):
        """The process of this role in the newest generation, the one that serves."""
        started = [line for line in self.service.log if f"started role={role}" in line]
        return int(started[-1].rpartition("pid=")[2])

    def assert_killed(self, role, attempts):
        for name, attempt in attempts.items():
            with self.subTest(role=role, attempt=name):
                start = len(self.service.log)
                with Taken(self.victim(role)) as process:
                    with self.assertRaises(Killed) as killed:
                        result = attempt(process)
                        self.fail(f"the kernel let it: {result}")
                    self.assertEqual(killed.exception.args[0], takeover.SIGSYS)
                self.service.wait_for_log(f"started role={role}.*" if role == "handshaker" else "ready generation=",
                                          start=start, timeout=40)
        self.assertTrue(self.service.ask(), "and the service goes on")

    def test_handshaker_tries(self):
        keyholder = self.victim("keyholder")
        self.assert_killed("handshaker", {
            "open a file": lambda p: p.call(takeover.OPENAT, -100, p.store(b"/etc/passwd\0"), 0),
            "execute": lambda p: p.call(takeover.EXECVE, p.store(b"/bin/sh\0"), 0, 0),
            "a new socket": lambda p: p.call(takeover.SOCKET, 2, 1, 0),
            # This would hold the pipe's lock until data come, and so hold up the keyholder, which reads the other end.
            "splice into a pipe": lambda p: p.call(takeover.SPLICE, takeover.descriptors(p.pid, "socket")[-1], 0,
                                                   self.signing_channel(p).requests, 0, 100, 0),
            # This would do the same, by a write from a page of a file system that somebody else serves.
            "map a file": lambda p: p.call(takeover.MMAP, 0, 4096, 1, 2, takeover.descriptors(p.pid, "/")[-1], 0),
            "the keyholder's memory": lambda p: p.call(takeover.PROCESS_VM_READV, keyholder, p.store(bytes(32)), 1,
                                                       p.scratch, 1, 0),
        })

    def listeners(self, process):
        found = []
        for fd, copy in takeover.copied_sockets(process.pid):
            if copy.family == socket.AF_INET and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(fd)
        self.assertTrue(found)
        return found

    def test_handshaker_stops_a_listener(self):
        """All later generations use the same listeners."""
        def shut(how):
            return lambda p: p.call(takeover.SHUTDOWN, self.listeners(p)[0], how)

        def drop_all(process):
            code = process.store(struct.pack("<HBBI", 6, 0, 0, 0))  # BPF_RET 0
            program = process.store(struct.pack("<HxxxxxxQ", 1, code), 64)
            return process.call(takeover.SETSOCKOPT, self.listeners(process)[0], SOL_SOCKET, SO_ATTACH_FILTER, program, 16)

        def lock_filter(process):
            one = process.store(struct.pack("i", 1))
            return process.call(takeover.SETSOCKOPT, self.listeners(process)[0], SOL_SOCKET, SO_LOCK_FILTER, one, 4)

        self.assert_killed("handshaker", {"shutdown": shut(SHUT_RD), "shutdown of both": shut(SHUT_RDWR),
                                          "a filter that drops all": drop_all, "a lock on it": lock_filter})

    def test_handshaker_leaves_a_listener_as_no_other_would(self):
        """A handshaker can do to a listener what it may do to its connections; the next generation sets again all that it
        needs."""
        with Taken(self.victim("handshaker")) as process:
            for fd in self.listeners(process):
                self.assertEqual(process.call(takeover.SHUTDOWN, fd, SHUT_WR), 0)
                one = process.store(struct.pack("i", 1))
                for option in ((SOL_TCP, TCP_CORK), (SOL_TCP, TCP_USER_TIMEOUT), (SOL_SOCKET, SO_KEEPALIVE)):
                    self.assertEqual(process.call(takeover.SETSOCKOPT, fd, *option, one, 4), 0)
                self.assertEqual(process.call(takeover.FCNTL, fd, F_SETFL, os.O_RDWR), 0)
        self.service.certificates[0].__init__(self.service.home)
        self.service.reload("ready generation=2")
        for _ in range(3):
            self.assertTrue(self.service.ask(timeout=10 * testlib.PATIENCE))
        pid = self.victim("handshaker")
        for fd in self.listeners(takeover.Taken(pid)):
            with takeover.copy_of_socket(pid, fd) as copy:
                for option in ((SOL_TCP, TCP_CORK), (SOL_TCP, TCP_USER_TIMEOUT), (SOL_SOCKET, SO_KEEPALIVE)):
                    self.assertEqual(copy.getsockopt(*option), 0)

    def test_keyholder_tries(self):
        self.assert_killed("keyholder", {
            "open a file": lambda p: p.call(takeover.OPENAT, -100, p.store(b"/etc/passwd\0"), 0),
            "a new socket": lambda p: p.call(takeover.SOCKET, 1, 1, 0),
            "a process": lambda p: p.call(takeover.FORK),
        })

    def signing_channel(self, process):
        return SigningChannel(process, self.victim("keyholder"))

    def answer(self, process, fd):
        def receive():
            size = process.call(takeover.RECVFROM, fd, process.scratch + 4096, 4096, 0x40, 0, 0)
            return process.load(size, 4096) if size > 0 else b"-" if size != -11 else None
        return testlib.wait_until(receive, "an answer", timeout=5)

    def refused(self, answer):
        self.assertEqual(answer[:1], b"\3", "Refused")
        return answer[-1]

    def test_handshaker_asks_for_signatures(self):
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            for content in (TLS13_SERVER, tls12_server(X25519), tls12_server(P256), tls12_server(P384)):
                signed = channel.ask(0, ECDSA_P256, content)
                self.assertEqual(signed[:1], b"\2", "what a handshake signs, it may have signed")
            for content in (b"pay 1000 to me", bytes(200), TLS13_SERVER[:-1], TLS13_SERVER + bytes(200),
                            TLS13_SERVER.replace(b"server", b"client"), b"\x30\x82" + bytes(98), TLS12_CLIENT,
                            tls12_server(P521)):
                self.assertEqual(self.refused(channel.ask(0, ECDSA_P256, content)), CONTENT)
            for certificate_id in (1, 2, 65535):
                self.assertEqual(self.refused(channel.ask(certificate_id, ECDSA_P256, TLS13_SERVER)), CERTIFICATE)
            self.assertEqual(self.refused(channel.ask(0, RSA_PKCS1, TLS13_SERVER)), SCHEME)
        self.assertTrue(self.service.ask(), "after the takeover the process serves again")

    def test_handshaker_asks_for_a_certificate(self):
        """The handshaker has made the certificate itself, for the service's name or for any: once with P-521, which no service
        offers, and once with P-384, where a change of one bit gives what a handshake signs."""
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            for group in (P521, P384):
                self.assertEqual(self.refused(channel.ask(0, ECDSA_P256, certificate(group))), CONTENT)
            other = bytes([certificate(P384)[0] ^ 0x40]) + certificate(P384)[1:]
            self.assertEqual(channel.ask(0, ECDSA_P256, other)[:1], b"\2")

    def test_handshaker_of_a_modern_service_asks_for_tls12(self):
        self.service.lines += '\npolicy = "modern"'
        self.service.reload()
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            self.assertEqual(channel.ask(0, ECDSA_P256, TLS13_SERVER)[:1], b"\2")
            for group in (X25519, P256, P384, P521):
                self.assertEqual(self.refused(channel.ask(0, ECDSA_P256, tls12_server(group))), CONTENT)
        self.assertTrue(self.service.ask(), "after the takeover the process serves again")

    def test_handshaker_asks_too_often(self):
        """It asks as fast as it can, through copies of its channel: only the keyholder's clock decides how many requests are
        signed."""
        self.service.broker_lines += "\nmax_signatures = 100"
        self.service.reload()
        pid = self.victim("handshaker")
        with Taken(pid) as process:
            channel = self.signing_channel(process)
            with (open(takeover.copy_of(pid, channel.requests), "wb", buffering=0) as requests,
                  open(takeover.copy_of(pid, channel.answers), "rb", buffering=0) as answers):
                signed, refused = 0, 0
                start = time.monotonic()
                while refused < 2000:
                    requests.write(sign_request(0, ECDSA_P256, TLS13_SERVER))
                    self.assertTrue(select.select([answers], [], [], 20)[0], "an answer")
                    answer = answers.read(4096)[4:]
                    if answer[:1] == b"\2":
                        signed += 1
                    else:
                        self.assertEqual(self.refused(answer), RATE)
                        refused += 1
                took = time.monotonic() - start
        print(f"{signed} signatures and {refused} refusals in {took:.2f} s")
        self.assertGreater(signed, 0)
        self.assertLessEqual(signed, 25 + 100 * took + 1)
        time.sleep(0.25)  # until it may ask again
        self.assertTrue(self.service.ask(), "after the takeover the process serves again")

    def test_handshaker_asks_for_a_connection(self):
        """The message has no place for an address, and the configuration has no upstream."""
        with Taken(self.victim("handshaker")) as process:
            for upstream in (0, 1, 65535):
                ask = bytes([CONNECT]) + tlv(REQUEST, struct.pack("!I", 5)) + tlv(UPSTREAM, struct.pack("!H", upstream))
                with takeover.Ring(process.pid) as reports:
                    self.assertTrue(reports.send(ask))
                refused = tlv(REQUEST, struct.pack("!I", 5)) + tlv(ERROR, struct.pack("!I", errno.EINVAL))
                self.assertEqual(self.answer(process, 3), bytes([CONNECTED]) + refused)
        self.assertTrue(self.service.ask(), "after the takeover the process serves again")

    def test_handshaker_sends_nonsense_to_the_keyholder(self):
        start = len(self.service.log)
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            process.store(struct.pack("!I", 996) + os.urandom(996))
            self.assertEqual(process.call(takeover.WRITE, channel.requests, process.scratch, 1000), 1000)
        self.service.wait_for_log("closing the channel of handshaker 0: ", start=start)
        self.service.wait_for_log(r"started role=handshaker\[1\] service=echo generation=1", start=start, timeout=40)
        self.assertTrue(self.service.ask())


if __name__ == "__main__":
    unittest.main()
