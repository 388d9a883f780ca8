# SPDX-License-Identifier: Apache-2.0
"""What a peer sends after the handshake, lawful or not, and what has to come of it: the same in each mode, whoever the program is.
The cases print a table."""

import os
import re
import unittest

import broker as testlib
import record_client
from exec_service import ExecService
from record_client import ALERT, DATA, FATAL, HANDSHAKE, V1_2, V1_3, WARNING, RecordClient

UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, ILLEGAL_PARAMETER, DECODE_ERROR, PROTOCOL_VERSION, USER_CANCELED, NO_RENEGOTIATION = (
    10, 20, 22, 47, 50, 70, 90, 100)
CLOSE_NOTIFY = record_client.CLOSE_NOTIFY
NAMES = {CLOSE_NOTIFY: "close_notify", UNEXPECTED_MESSAGE: "unexpected_message", BAD_RECORD_MAC: "bad_record_mac",
         RECORD_OVERFLOW: "record_overflow", ILLEGAL_PARAMETER: "illegal_parameter", DECODE_ERROR: "decode_error",
         PROTOCOL_VERSION: "protocol_version", NO_RENEGOTIATION: "no_renegotiation"}
TEXT = b"x" * 5000
KEY_UPDATE = bytes([24, 0, 0, 1])

# A program for each connection: counts what comes up to its end. It is stopped at a cut (tlsbroker-exec(1)).
PROGRAM = """
import os
size = 0
while data := os.read(0, 65536):
    size += len(data)
os.write(2, b"saw end after %d\\n" % size)
"""
# A daemon: the same for each connection that it accepts.
DAEMON = """
import socket, sys, threading
def serve(connection):
    size, how = 0, "end"
    try:
        while data := connection.recv(65536):
            size += len(data)
    except OSError:
        how = "cut"
    print("saw", how, "after", size, file=sys.stderr, flush=True)
    connection.close()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
"""


class Case:
    """`send(client)` sends; then the program sees `program`, and the client gets `alert` and FIN. None: does not matter; a tuple: one of
    these."""

    def __init__(self, name, send, program="end", size=len(TEXT), alert=CLOSE_NOTIFY, versions=(V1_2, V1_3)):
        self.name, self.send, self.program, self.size, self.alert, self.versions = name, send, program, size, alert, versions


def ends(client, *pieces):
    """Sends TEXT, the pieces, and an end."""
    client.data(TEXT)
    for kind, data in pieces:
        client.send(kind, data)
    client.close_notify()
    client.finish()


def unlawful(name, send, alert, versions=(V1_2, V1_3)):
    def act(client):
        client.data(TEXT)
        send(client)
    return Case(name, act, "cut", None, alert, versions)


def behind(*acts):
    def act(client):
        client.data(TEXT)
        for one in acts:
            one(client)
    return act


def raw(data):
    return lambda client: client.raw.sendall(data)


def records(*sizes):
    def act(client):
        for size in sizes:
            client.send(DATA, b"x" * size)
        client.close_notify()
        client.finish()
    return act


def bad_tag(client):
    record = client.out.seal(DATA, TEXT)
    client.raw.sendall(record[:-1] + bytes([record[-1] ^ 1]))


def update(client, request):
    client.send(HANDSHAKE, KEY_UPDATE + bytes([request]))
    client.out.update()


CASES = [
    Case("close_notify, FIN", ends),
    Case("close_notify, reset", behind(RecordClient.close_notify, RecordClient.reset), alert=None),
    Case("FIN alone", behind(RecordClient.finish), "cut", None, None),
    Case("reset alone", behind(RecordClient.reset), "cut", None, None),
    Case("1 empty record", lambda client: ends(client, (DATA, b""))),
    Case("3 empty records", lambda client: ends(client, *[(DATA, b"")] * 3)),
    Case("30 empty records, each behind a byte", lambda client: ends(client, *[(DATA, b""), (DATA, b"x")] * 30), size=len(TEXT) + 30),
    unlawful("100 empty records", lambda client: [client.send(DATA, b"") for _ in range(100)], UNEXPECTED_MESSAGE),
    Case("padded records", lambda client: (client.send(DATA, TEXT, 1000), client.send(DATA, b"", 100), client.close_notify(),
                                           client.finish()), versions=(V1_3,)),
    Case("records of 1 to 2^14 bytes", records(1, 2, 100, 2**14 - 1, 2**14), size=103 + 2**15 - 1),
    unlawful("a record of 2^14 + 1", lambda client: client.send(DATA, bytes(2**14 + 1)), RECORD_OVERFLOW),
    unlawful("a record that is far too long", raw(b"\x17\x03\x03\x60\x00" + bytes(0x6000)), RECORD_OVERFLOW),
    unlawful("an older version in the header", raw(b"\x17\x03\x01\x00\x20" + bytes(32)),
             (PROTOCOL_VERSION, DECODE_ERROR)),  # the latter is OpenSSL's in TLS 1.3
    unlawful("an unknown version in the header", raw(b"\x17\x04\x03\x00\x20" + bytes(32)), PROTOCOL_VERSION),
    unlawful("a wrong tag", bad_tag, BAD_RECORD_MAC),
    unlawful("an unknown type", lambda client: client.send(99, b"abc"), UNEXPECTED_MESSAGE),
    unlawful("a ClientHello", lambda client: client.send(HANDSHAKE, bytes([1, 0, 0, 0])), UNEXPECTED_MESSAGE, (V1_3,)),
    Case("a ClientHello, then more", lambda client: ends(client, (HANDSHAKE, bytes([1, 0, 0, 0])), (DATA, b"x")), size=len(TEXT) + 1,
         alert=NO_RENEGOTIATION, versions=(V1_2,)),
    Case("a KeyUpdate", lambda client: (client.data(TEXT), update(client, 0), client.data(TEXT), client.close_notify(),
                                        client.finish()), size=2 * len(TEXT), versions=(V1_3,)),
    Case("a KeyUpdate with request", lambda client: (client.data(TEXT), update(client, 1), client.data(TEXT), client.close_notify(),
                                                     client.finish()), size=2 * len(TEXT), versions=(V1_3,)),
    unlawful("a KeyUpdate of kind 2", lambda client: update(client, 2), ILLEGAL_PARAMETER, (V1_3,)),
    unlawful("an empty KeyUpdate", lambda client: client.send(HANDSHAKE, bytes([24, 0, 0, 0])), DECODE_ERROR, (V1_3,)),
    unlawful("a KeyUpdate of two bytes", lambda client: client.send(HANDSHAKE, bytes([24, 0, 0, 2, 0, 0])),
             (DECODE_ERROR, ILLEGAL_PARAMETER), (V1_3,)),  # the latter is OpenSSL's
    Case("user_canceled, then more", lambda client: ends(client, (ALERT, bytes([WARNING, USER_CANCELED])), (DATA, b"x")),
         size=len(TEXT) + 1),
    Case("a fatal alert", behind(lambda client: client.send(ALERT, bytes([FATAL, 80]))), "cut", None, None),
]


class RecordCases:
    """A subclass sets `KTLS`, what [service] has for ktls, and `DIRECT`, whether the connections then are direct."""

    KTLS, DIRECT = "never", False

    @classmethod
    def setUpClass(cls):
        cls.ways = ["exec", "daemon"]
        python, port = ["/usr/bin/python3", "-S", "-c"], testlib.free_port()
        cls.service = cls.enterClassContext(ExecService(
            {"exec": [*python, PROGRAM], "daemon": [*python, DAEMON, str(port)]}, daemons=("daemon",), ktls=cls.KTLS,
            lines={"daemon": f"port = {port}"}))
        cls.table = []

    @classmethod
    def tearDownClass(cls):
        width = max(len(case.name) for case in CASES)
        print(f"\n{'':{width}}  version  " + "  ".join(f"{way:41}" for way in cls.ways))
        for name, version, cells in cls.table:
            print(f"{name:{width}}  {version}  " + "  ".join(f"{cell:41}" for cell in cells))

    def follows(self, case):
        """Whether a KeyUpdate is followed: on a direct connection by kernels that can change keys. Others end it."""
        return "a KeyUpdate" not in case.name or not self.DIRECT or testlib.expects("rekey")

    def outcome(self, way, case, version):
        start = len(self.service.log)
        context = testlib.tls_context(self.service.certificate)
        with RecordClient(self.service.ports[way], context, version) as client:
            client.raw.settimeout(30 * testlib.PATIENCE)
            self.service.wait_for_log(rf"connection conn=\w+ service={way} peer=127.0.0.1:{client.raw.getsockname()[1]} ", start=start)
            case.send(client)
            alert, how = None, None
            if client.raw.fileno() >= 0:
                _, alert, how = client.end()
        # exec stops its program at a cut, perhaps before that can say anything.
        said = self.service.wait_for_log(rf"worker\.{way}\S* .*?(?:saw (end after \d+|cut)|exec: ended .* why=)", start=start, timeout=30)
        return said.group(1) or "cut", alert, how

    def test_all(self):
        for case in CASES:
            for version in case.versions:
                cells = []
                for way in self.ways:
                    with self.subTest(case=case.name, version=version.name, way=way):
                        said, alert, how = self.outcome(way, case, version)
                        cells.append(", ".join(filter(None, [said, NAMES.get(alert, alert and str(alert)), how])))
                        lawful = case.program == "end" and self.follows(case)
                        self.assertEqual(said, f"end after {case.size}" if lawful else "cut")
                        if case.alert is not None and self.follows(case):
                            self.assertIn(alert, case.alert if isinstance(case.alert, tuple) else (case.alert,))
                            self.assertEqual(how, "fin")
                self.table.append((case.name, version.name, cells))
