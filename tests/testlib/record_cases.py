# SPDX-License-Identifier: Apache-2.0
"""What a peer sends after the handshake, lawful or not, and what has to come of it: the same in each mode, whoever the program is.
The cases print a table."""

import contextlib

import broker as testlib
import record_client
from exec_service import ExecService
from record_client import ALERT, DATA, FATAL, HANDSHAKE, V1_2, V1_3, WARNING, RecordClient

UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, ILLEGAL_PARAMETER, DECODE_ERROR = 10, 20, 22, 47, 50
PROTOCOL_VERSION, INTERNAL_ERROR, USER_CANCELED, NO_RENEGOTIATION = 70, 80, 90, 100
CLOSE_NOTIFY = record_client.CLOSE_NOTIFY
NAMES = {CLOSE_NOTIFY: "close_notify", UNEXPECTED_MESSAGE: "unexpected_message", BAD_RECORD_MAC: "bad_record_mac",
         RECORD_OVERFLOW: "record_overflow", ILLEGAL_PARAMETER: "illegal_parameter", DECODE_ERROR: "decode_error",
         PROTOCOL_VERSION: "protocol_version", INTERNAL_ERROR: "internal_error", NO_RENEGOTIATION: "no_renegotiation"}
COUNTING_WORKER = testlib.program("tests/testlib/counting-worker")
TEXT = b"x" * 5000
KEY_UPDATE = bytes([24, 0, 0, 1])

ANSWER = b"a" * 200_000

# All programs count what comes up to its end, and say it. A client that begins with "A" is answered after that, one that begins
# with "F" before, and the program ends its direction then.
COMMON = """
import errno, os, socket, sys, threading
def serve(read, write, end):
    begin, size, how = b"", 0, "end"
    try:
        while data := read(65536):
            if not size:
                begin = data[:1]
                if begin == b"F":
                    write(b"a" * %d)
                    end()
            size += len(data)
    except OSError as error:
        how = "cut" if error.errno == errno.ECONNRESET else errno.errorcode[error.errno]
    os.write(2, b"saw %%s after %%d\\n" %% (how.encode(), size))
    if begin == b"A":
        write(b"a" * %d)
""" % (len(ANSWER), len(ANSWER))
# For each connection one that knows standard input and output. It is stopped at a cut (tlsbroker-exec(1)).
STDIO = COMMON + """
serve(lambda size: os.read(0, size), lambda data: os.write(1, data), lambda: os.close(1))
"""
SOCKET = COMMON + """
connection = socket.socket(fileno=0)
serve(connection.recv, connection.sendall, lambda: connection.shutdown(socket.SHUT_WR))
"""
DAEMON = COMMON + """
def accepted(connection):
    serve(connection.recv, connection.sendall, lambda: connection.shutdown(socket.SHUT_WR))
    connection.close()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=accepted, args=listener.accept()[:1]).start()
"""
# tlsbroker.h: what reading gives where the library itself has the TCP socket.
TRUNCATED, BY_ALERT, REKEY, PROTOCOL = -5001, -5002, -5003, -5004
RESULTS = {TRUNCATED: "truncated", BY_ALERT: "alert", REKEY: "rekey", PROTOCOL: "protocol"}


class Case:
    """`send(client)` sends; then the program sees `program`, and the client gets `alert` and FIN. None: does not matter; a tuple: one of
    these."""

    def __init__(self, name, send, program="end", size=len(TEXT), alert=CLOSE_NOTIFY, versions=(V1_2, V1_3), answer=b""):
        self.name, self.send, self.program, self.size, self.alert, self.versions = name, send, program, size, alert, versions
        self.answer = answer


class ProgramFirst(Case):
    """The program answers and ends its direction. The client waits for that, and then goes on."""

    def __init__(self, name):
        super().__init__(name, None, size=2 * len(TEXT) + 1, answer=ANSWER)

    @staticmethod
    def exchange(client, ends):
        """`ends`: whether the end is to be seen before the client's. Returns what the client got before its own end."""
        client.data(b"F" + TEXT)
        data, alert = b"", None
        with contextlib.suppress(EOFError):
            while len(data) < len(ANSWER) or ends and alert is None:
                kind, content = client.receive()
                if kind == ALERT:
                    alert = content[1]
                else:
                    data += content
        client.data(TEXT)
        client.close_notify()
        client.finish()
        return data, alert


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


def asks(*acts):
    def act(client):
        client.data(b"A" + TEXT)
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
    Case("close_notify, FIN; then the program answers", asks(RecordClient.close_notify, RecordClient.finish),
         size=len(TEXT) + 1, answer=ANSWER),
    Case("close_notify; then the program answers", asks(RecordClient.close_notify), size=len(TEXT) + 1, answer=ANSWER),
    ProgramFirst("the program answers and ends; then the client sends more"),
    Case("a fatal alert", behind(lambda client: client.send(ALERT, bytes([FATAL, 80]))), "cut", None, None),
]


# What a program reads by itself from a connection whose records the kernel does, where that is not all of the data and then EIO.
ALL = f"after {len(TEXT)}"
EMPTY = f"EIO {ALL}", f"end {ALL}"  # recv(2) gives 0 for empty records of which a close_notify is the next
PLAIN = {
    "FIN alone": (f"end {ALL}",),
    "reset alone": (f"cut {ALL}",),
    "1 empty record": EMPTY,
    "3 empty records": EMPTY,
    "padded records": EMPTY,
    "100 empty records": (f"end {ALL}",),  # they are nothing; the client's FIN is behind them
    "a record of 2^14 + 1": (f"EMSGSIZE {ALL}",),
    "a record that is far too long": (f"EMSGSIZE {ALL}",),
    "an older version in the header": (f"EINVAL {ALL}",),
    "an unknown version in the header": (f"EINVAL {ALL}",),
    "a wrong tag": (f"EBADMSG {ALL}",),
    "a ClientHello, then more": (f"EIO {ALL}",),
    "a KeyUpdate": (f"EIO {ALL}",),
    "a KeyUpdate with request": (f"EIO {ALL}",),
    "user_canceled, then more": (f"EIO {ALL}",),
}


class RecordCases:
    """A subclass sets `KTLS`, what [service] has for ktls, and `DIRECT`, whether the connections then are direct."""

    KTLS, DIRECT = "never", False
    # The columns of the table: services, and what they are.
    WAYS = {"exec": "exec", "socket": 'exec, style = "socket"', "daemon": "daemon", "plain": "daemon, direct = true",
            "library": "library"}

    @classmethod
    def setUpClass(cls):
        python = ["/usr/bin/python3", "-S", "-c"]
        ports = {way: str(testlib.free_port()) for way in ("daemon", "plain")}
        cls.service = cls.enterClassContext(ExecService(
            {"exec": [*python, STDIO], "socket": [*python, SOCKET], "daemon": [*python, DAEMON, ports["daemon"]],
             "plain": [*python, DAEMON, ports["plain"]], "library": [COUNTING_WORKER, str(len(ANSWER))]},
            commands=("library",), daemons=("daemon", "plain"), ktls=cls.KTLS,
            lines={"socket": 'style = "socket"', "daemon": f"port = {ports['daemon']}",
                   "plain": f"port = {ports['plain']}\ndirect = true\nnetwork = true"}))
        cls.table = []

    @classmethod
    def tearDownClass(cls):
        rows = [("", "version", list(cls.WAYS.values())), *cls.table]
        rows = [[name, version, *cells] for name, version, cells in rows]
        widths = [max(map(len, column)) for column in zip(*rows)]
        print("", *["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows], sep="\n")

    def follows(self, case):
        """Whether a KeyUpdate is followed: on a direct connection by kernels that can change keys. Others end it."""
        return case.program == "cut" or "a KeyUpdate" not in case.name or not self.DIRECT or testlib.expects("rekey")

    def unnoticed(self, way, case):
        """Whether nobody but the client can end the connection. recv(2), by which tlsbroker_read() reads, takes empty records and
        waits for more; splice(2), by which exec and run read, stops at each."""
        return self.DIRECT and (way == "plain" and case.program == "cut" or way == "library" and case.name == "100 empty records")

    def outcome(self, way, case, version):
        """What the program says, and what the client gets: data, the number of an alert, and how it ends."""
        start = len(self.service.log)
        context = testlib.tls_context(self.service.certificate)
        with RecordClient(self.service.ports[way], context, version) as client:
            client.raw.settimeout(30 * testlib.PATIENCE)
            port = client.raw.getsockname()[1]
            self.service.wait_for_log(rf"connection conn=\w+ service={way} peer=127.0.0.1:{port} ", start=start)
            before = b"", None
            if isinstance(case, ProgramFirst):
                # A program's closed standard output is no end yet: its exit status decides which one it is (tlsbroker-exec(1)).
                before = case.exchange(client, ends=way != "exec")
            else:
                # A program that has the socket itself may have closed before all was sent.
                with contextlib.suppress(*[OSError] if way == "plain" and self.DIRECT else []):
                    case.send(client)
                    if self.unnoticed(way, case) and client.raw.fileno() >= 0:
                        client.finish()
            data, alert, how = client.end() if client.raw.fileno() >= 0 else (b"", None, None)
            got = before[0] + data, before[1] if alert is None else alert, how
        # exec stops its program at a cut, perhaps before that can say anything.
        said = self.service.wait_for_log(
            rf"worker\.{way}\S* .*?(?:saw (\w+) after (\d+)(?: result=(\S+))?|exec: ended .* why=)", start=start, timeout=30)
        how_read, size, result = said.groups()
        return how_read or "stopped", size and int(size), result and int(result), *got

    def check(self, way, case, told):
        said, size, result, data, alert, how = told
        lawful = case.program == "end" and self.follows(case)
        if way == "plain" and self.DIRECT:
            self.check_plain(case, told)
            return
        if way in ("exec", "socket") and not lawful:
            self.assertIn(said, ("stopped", "cut"))
        else:
            self.assertEqual((said, size), ("end", case.size) if lawful else ("cut", len(TEXT)))
        if way == "library":
            self.assertEqual(result, 0 if lawful else TRUNCATED if self.unnoticed(way, case) else self.result(case))
        self.assertEqual(data, case.answer)
        expected = case.alert if self.follows(case) else INTERNAL_ERROR
        if expected is not None and not self.unnoticed(way, case):
            self.assertIn(alert, expected if isinstance(expected, tuple) else (expected,))
            self.assertEqual(how, "fin")

    def result(self, case):
        """Of tlsbroker_read() at the end of a case that is not lawful."""
        if not self.DIRECT:
            return TRUNCATED  # the broker reads alerts and records
        if not self.follows(case):
            return REKEY
        return BY_ALERT if case.name == "a fatal alert" else TRUNCATED if case.alert is None else PROTOCOL

    def check_plain(self, case, told):
        """What tlsbroker-run(1) says of --direct, where nobody reads control records for the program, and nobody sends any."""
        said, size, _, data, alert, how = told
        self.assertIn(f"{said} after {size}", PLAIN.get(case.name, (f"EIO after {case.size or len(TEXT)}",)))
        self.assertEqual(data, case.answer)
        self.assertIsNone(alert)
        self.assertIn(how, ("fin", "reset", None))

    @staticmethod
    def cell(told):
        said, size, result, data, alert, how = told
        read = said if size is None else f"{said} after {size}"
        return ", ".join(filter(None, [read + (f" ({RESULTS[result]})" if result else ""), data and f"{len(data)} bytes",
                                       NAMES.get(alert, alert and str(alert)), how]))

    def test_all(self):
        for case in CASES:
            for version in case.versions:
                cells = []
                for way in self.WAYS:
                    if way == "socket" and testlib.GUEST and not case.answer:
                        cells.append("")  # a program takes a second to start there
                        continue
                    with self.subTest(case=case.name, version=version.name, way=way):
                        cells.append("?")
                        told = self.outcome(way, case, version)
                        cells[-1] = self.cell(told)
                        self.check(way, case, told)
                self.table.append((case.name, version.name, cells))
