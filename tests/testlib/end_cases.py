# SPDX-License-Identifier: Apache-2.0
"""How the data of a client ends, for programs behind `exec` and `daemon`: what comes behind an authenticated end does not take it
away. The programs do one thing after another when the test makes a file with that name, and write down what they have seen."""

import hashlib
import os
import random

import broker as testlib
import record_client
from exec_service import ExecService

# What all programs share: `when` waits for the test, `say` tells it.
PROGRAM = """
import hashlib, os, signal, socket, sys, time
place = sys.argv[1]
def say(name, text):
    with open(f"{place}/{name}.new", "w") as file: file.write(text)
    os.rename(f"{place}/{name}.new", f"{place}/{name}")
def when(name):
    while not os.path.exists(f"{place}/{name}"): time.sleep(0.01)
def terminated(*_):
    say("terminated", "")
    os._exit(1)
signal.signal(signal.SIGTERM, terminated)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
def read_to_end(read):
    digest, size = hashlib.sha256(), 0
    try:
        while piece := read(4096):
            digest.update(piece)
            size += len(piece)
    except OSError as error:
        return f"{size} {type(error).__name__}"
    return f"{size} {digest.hexdigest()}"
def write_until_refused(write):
    try:
        while True:
            write(b"x")
            time.sleep(0.01)
    except OSError as error:
        return type(error).__name__
def serve(read, write):
    say("started", "")
    when("go")
    if os.path.exists(f"{place}/write-first"):
        say("refused", write_until_refused(write))
    say("read", read_to_end(read))
    when("write")
    say("written", write_until_refused(write))
"""
EXEC = PROGRAM + "serve(lambda size: os.read(0, size), lambda data: os.write(1, data))"
SYSTEMD = PROGRAM + """
connection = socket.socket(fileno=3)
serve(connection.recv, connection.send)
"""
DAEMON = PROGRAM + """
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    connection, _ = listener.accept()
    with connection: serve(connection.recv, connection.send)
"""
ECHO_DAEMON = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    with connection:
        try:
            while piece := connection.recv(65536): connection.sendall(piece)
        except OSError: pass
"""


class Ends:
    ktls = "prefer"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        programs = {"exec": ["/usr/bin/python3", "-c", EXEC, "{home}/writable/exec"],
                    "systemd": ["/usr/bin/python3", "-c", SYSTEMD, "{home}/writable/systemd"],
                    "daemon": ["/usr/bin/python3", "-c", DAEMON, "{home}/writable/daemon", "8080"],
                    "cat": ["/bin/cat"],
                    "echo": ["/usr/bin/python3", "-c", ECHO_DAEMON, "8080"]}
        lines = dict.fromkeys(programs, 'read_write = ["{home}/writable"]\n')
        lines["systemd"] += 'style = "systemd"\n'
        cls.service = cls.enterClassContext(ExecService(programs, lines=lines, ktls=cls.ktls, daemons=("daemon", "echo")))

    def place(self, program):
        """An empty directory for the program's files."""
        place = os.path.join(self.service.home, "writable", program)
        os.makedirs(place, exist_ok=True)
        os.chmod(place, 0o777)
        for name in os.listdir(place):
            os.unlink(os.path.join(place, name))
        return place

    @staticmethod
    def tell(place, name):
        with open(os.path.join(place, name), "w", encoding="ascii"):
            pass

    @staticmethod
    def told(place, name, timeout=20):
        path = os.path.join(place, name)
        testlib.wait_until(lambda: os.path.exists(path) or os.path.exists(os.path.join(place, "terminated")), name, timeout)
        if not os.path.exists(path):
            raise AssertionError(f"SIGTERM instead of {name}")
        with open(path, encoding="ascii") as file:
            return file.read()

    def client(self, name):
        context = testlib.tls_context(self.service.certificate)
        return self.enterContext(record_client.RecordClient(self.service.ports[name], context, record_client.V1_3))

    def test_a_reset_behind_an_end_that_was_read(self):
        """The program goes on, and learns of the reset only when it writes."""
        for program in ("exec", "systemd", "daemon"):
            with self.subTest(program=program):
                place, client = self.place(program), self.client(program)
                client.data(b"data")
                self.told(place, "started")
                self.tell(place, "go")
                client.close_notify()
                self.assertEqual(self.told(place, "read"), f"4 {hashlib.sha256(b'data').hexdigest()}")
                start = len(self.service.log)
                client.reset_when_acknowledged()
                self.tell(place, "write")
                self.assertIn(self.told(place, "written"), ("BrokenPipeError", "ConnectionResetError"))
                self.service.wait_for_log(r"ended conn=\w+ .*why=", start=start)


class DirectEnds(Ends):
    """Where a relay stands between, it decides what the program still gets."""

    ktls = "require"

    def test_a_reset_behind_an_end_that_was_not_read(self):
        # As much as there is room for before the program reads.
        for program, size, first in (("exec", 100_000, False), ("exec", 100_000, True), ("systemd", 100_000, False),
                                     ("systemd", 100_000, True), ("daemon", 400_000, False), ("daemon", 50_000, True)):
            data = random.Random(4).randbytes(size)
            whole = f"{len(data)} {hashlib.sha256(data).hexdigest()}"
            with self.subTest(program=program, writes_first=first):
                place, client = self.place(program), self.client(program)
                if first:
                    self.tell(place, "write-first")
                client.data(data)
                self.told(place, "started")
                client.close_notify()
                client.reset_when_acknowledged()
                self.tell(place, "go")
                if first:
                    self.assertIn(self.told(place, "refused"), ("BrokenPipeError", "ConnectionResetError"))
                self.assertEqual(self.told(place, "read"), whole)
                self.tell(place, "write")
                self.assertIn(self.told(place, "written"), ("BrokenPipeError", "ConnectionResetError"))

    def test_what_a_cut_client_said_last(self):
        """A daemon gets it, and the reset: behind it, or by the first of its calls that fails."""
        data = random.Random(5).randbytes(50_000)
        for first in (False, True):
            with self.subTest(writes_first=first):
                place, client = self.place("daemon"), self.client("daemon")
                if first:
                    self.tell(place, "write-first")
                client.data(data)
                self.told(place, "started")
                client.reset_when_acknowledged()
                self.tell(place, "go")
                if first:
                    self.assertIn(self.told(place, "refused"), ("BrokenPipeError", "ConnectionResetError"))
                    self.assertEqual(self.told(place, "read").split()[0], str(len(data)))
                else:
                    self.assertEqual(self.told(place, "read"), f"{len(data)} ConnectionResetError")
                self.tell(place, "write")
                self.told(place, "written")

    def test_empty_records(self):
        for program in ("cat", "echo"):
            for count in (1, 3, 16):  # twice as many follow each other
                with self.subTest(program=program, count=count):
                    client = self.client(program)
                    for text in (b"data", b"more"):
                        for piece in (*[b""] * count, text, *[b""] * count):
                            client.send(record_client.DATA, piece)
                        self.assertEqual(client.receive(), (record_client.DATA, text))
                    client.close_notify()
                    self.assertEqual(client.end(), (b"", record_client.CLOSE_NOTIFY, "fin"))
