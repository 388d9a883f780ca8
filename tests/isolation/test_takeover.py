"""A handshaker, and the keyholder, of a running broker are taken over: what they can still do. The full list of what is
forbidden is in role_attempts_test.cc; here it is the real processes with what they really hold."""

import errno
import os
import platform
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
# protocol/supervision.h and .cc
CONNECTED, CONNECT = 12, 22
UPSTREAM, REQUEST, ERROR = 33, 34, 35
TLS13_SERVER = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
TLS12_CLIENT = b"".join(bytes([kind, 0, 0, 64]) + bytes(64) for kind in (1, 2, 11, 12, 13, 14, 11, 16))


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def sign_request(certificate, scheme, content, number=7):
    return (b"\1" + tlv(1, struct.pack("!I", number)) + tlv(2, struct.pack("!H", certificate)) +
            tlv(3, struct.pack("!H", scheme)) + tlv(4, content))


@unittest.skipUnless(os.geteuid() == 0 and platform.machine() == "x86_64", "needs root and x86-64")
class Takeover(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}, handshakers=1))
        self.service.ask()
        if testlib.sanitized():
            self.skipTest("a sanitizer's run-time changes what is killed")

    def victim(self, role):
        """Of the newest generation, which serves."""
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
                self.service.wait_for_log("ready generation=", start=start, timeout=40)
        self.assertTrue(self.service.ask(), "and the service goes on")

    def test_handshaker_tries(self):
        keyholder = self.victim("keyholder")
        self.assert_killed("handshaker", {
            "open a file": lambda p: p.call(takeover.OPENAT, -100, p.store(b"/etc/passwd\0"), 0),
            "execute": lambda p: p.call(takeover.EXECVE, p.store(b"/bin/sh\0"), 0, 0),
            "a new socket": lambda p: p.call(takeover.SOCKET, 2, 1, 0),
            "the keyholder's memory": lambda p: p.call(takeover.PROCESS_VM_READV, keyholder, p.store(bytes(32)), 1,
                                                       p.scratch, 1, 0),
        })

    def test_keyholder_tries(self):
        self.assert_killed("keyholder", {
            "open a file": lambda p: p.call(takeover.OPENAT, -100, p.store(b"/etc/passwd\0"), 0),
            "a new socket": lambda p: p.call(takeover.SOCKET, 1, 1, 0),
            "a process": lambda p: p.call(takeover.FORK),
        })

    def signing_channel(self, process):
        """The first socket that it was sent, over its control channel, which is 3; it answers a request."""
        request = sign_request(0, ECDSA_P256, TLS13_SERVER)
        for fd in [fd for fd in takeover.descriptors(process.pid, "socket") if fd > 3]:
            process.store(request)
            if process.call(takeover.SENDTO, fd, process.scratch, len(request), 0x4040, 0, 0) != len(request):
                continue
            answer = self.answer(process, fd)
            if answer[:1] in (b"\2", b"\3"):
                return fd
        self.fail("no signing channel")

    def answer(self, process, fd):
        def receive():
            size = process.call(takeover.RECVFROM, fd, process.scratch + 4096, 4096, 0x40, 0, 0)
            return process.load(size, 4096) if size > 0 else b"-" if size != -11 else None
        try:
            return testlib.wait_until(receive, "an answer", timeout=1)
        except TimeoutError:
            return b"-"

    def ask(self, process, fd, *request):
        data = sign_request(*request)
        process.store(data)
        self.assertEqual(process.call(takeover.SENDTO, fd, process.scratch, len(data), 0x4040, 0, 0), len(data))
        return self.answer(process, fd)

    def refused(self, answer):
        self.assertEqual(answer[:1], b"\3", "Refused")
        return answer[-1]

    def test_handshaker_asks_for_signatures(self):
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            signed = self.ask(process, channel, 0, ECDSA_P256, TLS13_SERVER)
            self.assertEqual(signed[:1], b"\2", "what a handshake signs, it may have signed")
            for content in (b"pay 1000 to me", bytes(200), TLS13_SERVER[:-1], TLS13_SERVER + bytes(200),
                            TLS13_SERVER.replace(b"server", b"client"), b"\x30\x82" + bytes(98), TLS12_CLIENT):
                self.assertEqual(self.refused(self.ask(process, channel, 0, ECDSA_P256, content)), CONTENT)
            for certificate in (1, 2, 65535):
                self.assertEqual(self.refused(self.ask(process, channel, certificate, ECDSA_P256, TLS13_SERVER)),
                                 CERTIFICATE)
            self.assertEqual(self.refused(self.ask(process, channel, 0, RSA_PKCS1, TLS13_SERVER)), SCHEME)
        self.assertTrue(self.service.ask(), "given back, it serves")

    def test_handshaker_asks_too_often(self):
        """As fast as it can, through a copy of its channel: the clock of the keyholder decides, whatever it asks for."""
        self.service.broker_lines += "\nmax_signatures = 100"
        self.service.reload()
        pid = self.victim("handshaker")
        with Taken(pid) as process:
            channel = self.signing_channel(process)
            with takeover.copy_of_socket(pid, channel) as copy:
                signed, refused = 0, 0
                start = time.monotonic()
                while refused < 2000:
                    copy.send(sign_request(0, ECDSA_P256, TLS13_SERVER))
                    answer = copy.recv(4096)
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
        self.assertTrue(self.service.ask(), "given back, it serves")

    def test_handshaker_asks_for_a_connection(self):
        """What it can say has no address in it, and the configuration no upstream."""
        with Taken(self.victim("handshaker")) as process:
            for upstream in (0, 1, 65535):
                ask = bytes([CONNECT]) + tlv(REQUEST, struct.pack("!I", 5)) + tlv(UPSTREAM, struct.pack("!H", upstream))
                process.store(ask)
                sent = process.call(takeover.SENDTO, 3, process.scratch, len(ask), 0x4040, 0, 0)
                self.assertEqual(sent, len(ask))
                refused = tlv(REQUEST, struct.pack("!I", 5)) + tlv(ERROR, struct.pack("!I", errno.EINVAL))
                self.assertEqual(self.answer(process, 3), bytes([CONNECTED]) + refused)
        self.assertTrue(self.service.ask(), "given back, it serves")

    def test_handshaker_sends_nonsense_to_the_keyholder(self):
        start = len(self.service.log)
        with Taken(self.victim("handshaker")) as process:
            channel = self.signing_channel(process)
            process.store(os.urandom(1000))
            process.call(takeover.SENDTO, channel, process.scratch, 1000, 0x4040, 0, 0)
        self.service.wait_for_log("closing the channel of handshaker 0: ", start=start)
        self.service.wait_for_log("ready generation=2", start=start, timeout=40)
        self.assertTrue(self.service.ask())


if __name__ == "__main__":
    unittest.main()
