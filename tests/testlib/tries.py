# SPDX-License-Identifier: Apache-2.0
"""Makes many connections through a tap, and says how each ended: for tests of what must not be on the wire."""

import collections
import concurrent.futures
import itertools
import ssl

import broker as testlib
import echo_service
import wire

MARKER = b"9f41~ nobody on the wire sees me"  # 32 bytes
REQUEST = b"WHO\nECHO %d\n" % len(MARKER) + MARKER + b"END\n"
RESET = (ConnectionError, ssl.SSLEOFError, ssl.SSLError)


def contexts(service):
    """A client's context for each version and suite; Python cannot choose the suites of TLS 1.3."""
    suites = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")
    tls12, tls13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    return [service.context(tls13), *(service.context(tls12, suite) for suite in suites)]


class Client:
    """Makes connections of one kind; later ones resume the session of an earlier one."""

    def __init__(self, port, context):
        self.port, self.context, self.session = port, context, None

    def attempt(self):
        """How one connection went: "refused", "failed" in the handshake, "closed" without an answer, or (mode, reason)."""
        try:
            tls = testlib.tls_connect(self.port, self.context, timeout=30, session=self.session)
        except ConnectionRefusedError:
            return "refused"
        except RESET:
            return "failed"
        with tls:
            answer = self._ask(tls)
            self.session = tls.session or self.session
        if not answer:
            return "closed"
        told, rest = echo_service.who(answer)
        if rest != MARKER:
            raise AssertionError(f"a wrong answer: {answer!r}")
        return told["mode"], told.get("reason")

    def _ask(self, tls):
        answer = b""
        try:
            tls.sendall(REQUEST)
            while data := tls.recv(65536):
                answer += data
            tls.unwrap()
        except RESET:
            pass
        return answer


def run(service, name, count):
    """Makes `count` connections to this service; returns how often each outcome came. Raises AssertionError if anything but TLS
    records was on the wire."""
    with wire.Tap(service.ports[name]) as tap:
        clients = [Client(tap.port, context) for context in contexts(service)]
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            shares = [len(range(i, count, len(clients))) for i in range(len(clients))]
            runs = [pool.submit(lambda c, n: [c.attempt() for _ in range(n)], client, share)
                    for client, share in zip(clients, shares)]
        outcomes = collections.Counter(itertools.chain.from_iterable(run.result() for run in runs))
        assert len(tap.recordings) == count, f"{len(tap.recordings)} connections of {count}"
        for recording in tap.recordings:
            assert recording.finished.wait(10 * testlib.PATIENCE), "a connection does not end"
            check(recording)
    return outcomes


def check(recording):
    for direction, stream in recording.streams().items():
        wire.records(stream)  # raises at the first byte that belongs to no record
        for part in (MARKER[:8], b'"mode"', b"ECHO"):
            assert part not in stream, f"{direction}: plaintext on the wire"
