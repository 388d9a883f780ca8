# SPDX-License-Identifier: Apache-2.0
"""Programs that take their connection as systemd passes one with Accept=yes: descriptor 3, by LISTEN_FDS."""

import hashlib
import json
import os
import random
import ssl
import subprocess
import unittest

import broker as testlib
from exec_service import ExecService
from memory_client import Client

MIB = 2**20
VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
TAKE = """
import hashlib, json, os, socket, sys
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
assert os.environ["LISTEN_FDNAMES"] == "connection"
connection = socket.socket(fileno=3)
def read_to_end():
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return data
"""
REPORT = """
kinds = {}
for number in os.listdir("/proc/self/fd"):
    try:
        kinds[number] = os.readlink("/proc/self/fd/" + number).split(":")[0]
    except FileNotFoundError:
        pass
pidfd = os.pidfd_open(os.getpid())
connection.sendall(json.dumps({"environment": dict(os.environ), "descriptors": kinds, "family": connection.family,
    "type": connection.type, "inode": os.fstat(pidfd).st_ino}).encode())
"""
LIBSYSTEMD = """
import ctypes, os
library = ctypes.CDLL("libsystemd.so.0")
names = ctypes.POINTER(ctypes.c_char_p)()
count = library.sd_listen_fds_with_names(1, ctypes.byref(names))
stream = library.sd_is_socket(3, 0, 1, 0)  # SOCK_STREAM, and it does not listen
left = [name for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES") if ctypes.CDLL(None).getenv(name.encode())]
os.write(3, repr((count, names[0], stream, left)).encode())
"""
PROGRAMS = {
    "report": TAKE + REPORT,
    "libsystemd": LIBSYSTEMD,
    "all": TAKE + "connection.sendall(read_to_end()[::-1])",
    "echo": TAKE + "while piece := connection.recv(65536): connection.sendall(piece)",
    "first": TAKE + """
connection.sendall(hashlib.sha256(b"").digest() * (4 << 15))
connection.shutdown(socket.SHUT_WR)
print("read", hashlib.sha256(read_to_end()).hexdigest(), file=sys.stderr)
""",
    "fail": TAKE + 'connection.sendall(b"partly"); sys.exit(3)',
    "output": TAKE + 'print("on standard output", repr(sys.stdin.read()))',
    "deaf": TAKE + 'connection.sendall(b"enough"); connection.recv(1)',
    "waits": TAKE + """
connection.sendall(b"%d" % os.getpid())
print("saw an end", len(read_to_end()), flush=True)
""",
}


# inetd programs ask standard input what it is (rsync --daemon: is_a_socket() in socket.c).
INETD = {
    "inetd-report": """
import json, os, socket, sys
connection = socket.socket(fileno=0)
same = os.fstat(0).st_ino == os.fstat(1).st_ino
others = [n for n in os.listdir("/proc/self/fd") if n not in "012" and os.path.exists("/proc/self/fd/" + n)]
try: peer = repr(connection.getpeername())
except OSError as error: peer = error.errno
os.write(1, json.dumps({"family": connection.family, "type": connection.type, "same": same, "others": others, "peer": peer,
    "listen": os.environ.get("LISTEN_FDS"), "address": os.environ["REMOTE_ADDR"]}).encode())
print("for the log", file=sys.stderr)
""",
    "inetd-all": """
import socket
connection = socket.socket(fileno=0)
data = bytearray()
while piece := connection.recv(65536): data += piece
socket.socket(fileno=1).sendall(data[::-1])
""",
    "inetd-half": """
import os, socket, sys
os.write(1, b"answer")
socket.socket(fileno=1).shutdown(socket.SHUT_WR)
print("then read", len(os.read(0, 100)), file=sys.stderr)
""",
    "inetd-fail": "import os, sys; os.write(1, b'partly'); sys.exit(3)",
}


class SocketStyle(unittest.TestCase):
    """Standard input and output are one socket, as inetd(8) and stunnel(8) give it."""

    @classmethod
    def setUpClass(cls):
        programs = {name: ["/usr/bin/python3", "-c", text] for name, text in INETD.items()}
        programs["rsync"] = ["/usr/bin/rsync", "--daemon", "--config={home}/rsyncd.conf"]
        cls.service = ExecService(
            programs, lines='style = "socket"\nread_only = ["{home}", "/proc"]\nread_write = ["{home}/writable"]')
        home = cls.service.home
        os.mkdir(os.path.join(home, "tree"))
        with open(os.path.join(home, "tree", "large"), "wb") as file:
            file.write(random.Random(6).randbytes(2 * MIB))
        with open(os.path.join(home, "rsyncd.conf"), "w", encoding="ascii") as file:
            file.write(f"use chroot = no\nlog file = {home}/writable/log\n[tree]\npath = {home}/tree\n"
                       f"[in]\npath = {home}/writable\nread only = no\n")
        cls.enterClassContext(cls.service)

    def test_what_the_program_finds(self):
        start = len(self.service.log)
        told = json.loads(self.service.talk("inetd-report"))
        self.assertEqual(told, {"family": 1, "type": 1, "same": True, "others": [], "peer": "''", "listen": None,
                                "address": "127.0.0.1"})
        self.service.wait_for_log("stderr conn=.* text=\"for the log\"", start=start)

    def test_half_close_by_the_client(self):
        data = random.Random(1).randbytes(4 * MIB)
        for version in VERSIONS:
            self.assertEqual(self.service.talk("inetd-all", data, version), data[::-1])

    def test_half_close_by_the_program(self):
        with Client(self.service, ssl.TLSVersion.TLSv1_3, "inetd-half") as client:
            self.assertEqual(client.receive(), b"answer")
            self.assertEqual(client.receive(), b"")
            start = len(self.service.log)
            client.send(b"more")
            self.service.wait_for_log("then read 4", start=start)

    def test_a_failed_program_is_an_error_for_the_client(self):
        with self.service.connect("inetd-fail") as tls:
            self.assertEqual(testlib.ending(tls.recv), "cut")

    def test_rsync(self):
        home, port = self.service.home, self.service.ports["rsync"]
        connect = os.path.join(home, "connect")
        with open(connect, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nexec openssl s_client -quiet -verify_quiet -verify_return_error -servername localhost "
                       f"-CAfile {self.service.certificate.chain} -connect 127.0.0.1:{port} 2>/dev/null\n")
        os.chmod(connect, 0o755)
        environment = dict(os.environ, RSYNC_CONNECT_PROG=connect, RSYNC_PROXY="")
        got = os.path.join(home, "got")
        for source, target in (("rsync://localhost/tree/", got), (os.path.join(home, "tree/large"), "rsync://localhost/in/")):
            done = subprocess.run(["rsync", "-a", "--no-owner", "--no-group", "--timeout=20", source, target], env=environment,
                                  capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        for place in (got, self.service.writable):
            with open(os.path.join(place, "large"), "rb") as file:
                self.assertEqual(file.read(), random.Random(6).randbytes(2 * MIB))


class SystemdStyle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(ExecService(
            {name: ["/usr/bin/python3", "-c", text] for name, text in PROGRAMS.items()},
            lines='style = "systemd"\nread_only = ["/proc"]'))

    def client(self, name, version=None):
        return self.enterContext(Client(self.service, version, name))

    def test_what_the_program_finds(self):
        with self.service.connect("report") as tls:
            address, port = tls.getsockname()
            told = json.loads(tls.makefile("rb").read())
        variables = told["environment"]
        self.assertEqual({name: variables[name] for name in ("REMOTE_ADDR", "REMOTE_PORT", "PROTO", "TLSBROKER_SERVICE",
                                                             "SSL_TLS_SNI_SERVERNAME")},
                         {"REMOTE_ADDR": address, "REMOTE_PORT": str(port), "PROTO": "TCP",
                          "TLSBROKER_SERVICE": "report", "SSL_TLS_SNI_SERVERNAME": "localhost"})
        self.assertEqual((told["family"], told["type"]), (1, 1), "a Unix stream socket")
        self.assertEqual(told["descriptors"], {"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket"})
        pidfd = os.pidfd_open(os.getpid())
        own = os.pidfd_open(os.getppid())
        try:
            unique = os.fstat(pidfd).st_ino != os.fstat(own).st_ino  # Linux 6.9
        finally:
            os.close(pidfd)
            os.close(own)
        self.assertEqual(variables.get("LISTEN_PIDFDID"), str(told["inode"]) if unique else None)

    def test_by_libsystemd(self):
        self.assertEqual(self.service.talk("libsystemd").decode(), "(1, b'connection', 1, [])")

    def test_half_close_by_the_client(self):
        data = random.Random(1).randbytes(8 * MIB)
        for version in VERSIONS:
            with self.subTest(version=version.name):
                got = self.service.talk("all", data, version)
                self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(data[::-1]).digest())

    def test_half_close_by_the_program(self):
        """The client sees the end of the answer while the program goes on reading."""
        data = random.Random(2).randbytes(8 * MIB)
        for version in VERSIONS:
            with self.subTest(version=version.name):
                client = self.client("first", version)
                answer = bytearray()
                while piece := client.receive():
                    answer += piece
                self.assertEqual(bytes(answer), hashlib.sha256(b"").digest() * (4 << 15))
                if version == ssl.TLSVersion.TLSv1_2:
                    continue  # in TLS 1.2 an end is answered with an end (RFC 5246 section 7.2.1)
                start = len(self.service.log)
                client.send(data)
                client.end()
                self.service.wait_for_log(f"read {hashlib.sha256(data).hexdigest()}", start=start, timeout=30)
                self.service.wait_for_log(rf"ended conn=\w+ exit=0 in={len(data)} ", start=start)

    def test_both_ways_at_once(self):
        data = random.Random(3).randbytes(16 * MIB)
        self.assertEqual(hashlib.sha256(self.service.talk("echo", data)).digest(), hashlib.sha256(data).digest())

    def test_a_failed_program_is_an_error_for_the_client(self):
        for version in VERSIONS:
            client = self.client("fail", version)
            with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                while client.receive():
                    pass
        self.service.wait_for_log(r"ended conn=\w+ exit=3 in=0 out=6")

    def test_output_is_the_log(self):
        self.assertEqual(self.service.talk("output"), b"")
        self.service.wait_for_log("stderr conn=.* text=\"on standard output ''\"")

    def test_a_program_that_reads_nothing_more(self):
        """The program has ended well and closed its socket with input unread: its answer is complete."""
        self.assertEqual(self.service.talk("deaf", b"x" * 4 * MIB), b"enough")

    def test_a_cut_is_no_end(self):
        client = self.client("waits")
        pid = int(client.receive())
        client.tls.write(b"x" * 10000)
        client.raw.sendall(client.outgoing.read()[:5000])
        client.raw.close()
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "end of the program")
        self.service.wait_for_log(r'the client is gone conn=\w+ why="The stream was cut off')
        self.assertNotIn("saw an end", self.service.log_text())


if __name__ == "__main__":
    unittest.main()
