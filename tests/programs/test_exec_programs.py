# SPDX-License-Identifier: Apache-2.0
"""Servers that inetd would start, by `exec`, with their own clients: rsync, git, busybox's httpd and OpenSSH's sftp-server.
distccd needs an Internet address from getpeername(2), so it is behind `daemon` (tlsbroker-exec(1)).

The clients that do not know TLS have a program make the connection, which is `tlsbroker connect`. In the tests that have to do
something in the middle of a transfer, this program stops after some of it (see GATE)."""

import contextlib
import filecmp
import os
import random
import re
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import unittest

import broker as testlib
from exec_service import ExecService

MIB = 2**20
SMALL, LARGE = "small", "large"
TOOL = testlib.program("client-lib/tools/tlsbroker")
PROGRAMS = {
    "rsync": ["/usr/bin/rsync", "--daemon", "--config={home}/rsyncd.conf"],
    "git": ["/usr/bin/git", "daemon", "--inetd", "--export-all", "--base-path={home}/git", "{home}/git"],
    "pack": ["/usr/bin/git-upload-pack", "--strict", "{home}/git/large"],
    "httpd": ["/bin/busybox", "httpd", "-i", "-h", "{home}/data"],
    "sftp": ["/usr/lib/openssh/sftp-server", "-d", "{home}"],
    "distccd": ["/usr/bin/distccd", "--daemon", "--no-detach", "--listen", "127.0.0.1", "--port", "3632",
                "--allow", "127.0.0.0/8", "--log-stderr", "--jobs", "2"],
    "distccd-inetd": ["/usr/bin/distccd", "--inetd", "--allow", "127.0.0.0/8", "--log-stderr"],
}
FILES = 'read_only = ["{home}", "/proc"]\nread_write = ["{home}/writable"]\nenvironment = { TURN = "{turn}" }\n'
LINES = {**dict.fromkeys(PROGRAMS, FILES),
         "rsync": FILES + 'style = "socket"',
         "distccd": FILES + "port = 3632",
         "distccd-inetd": FILES + 'style = "socket"'}
RSYNCD = """
use chroot = no
reverse lookup = no
log file = {home}/writable/rsync.log
[data]
path = {home}/data
[in]
path = {home}/writable
read only = no
"""
CLIENT = """
[service.client]
listen = ["127.0.0.1:{port}"]
certificates = ["c"]
wrap = ["client"]
"""
# `tlsbroker connect`, which lets some bytes through, either way, and then waits for the test.
GATE = """
import os, subprocess, sys, threading, time
place, after = sys.argv[1], int(sys.argv[2])
connect = subprocess.Popen(sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
lock, through = threading.Lock(), 0
for number in 0, 1: os.set_blocking(number, True)  # distcc does not expect that
def copy(source, target):
    global through
    while data := os.read(source, 16384):
        with lock:
            through += len(data)
            if through >= after and not os.path.exists(place + "/waits"):
                open(place + "/waits", "w").close()
                while not os.path.exists(place + "/go"): time.sleep(0.01)
        while data:
            data = data[os.write(target, data):]
    os.close(target)
up = threading.Thread(target=copy, args=(0, connect.stdin.fileno()), daemon=True)
up.start()
copy(connect.stdout.fileno(), 1)
sys.exit(connect.wait())
"""
# What a client of distcc compiles. The functions make it large enough to be sent in many pieces.
SOURCE = "#include <stdio.h>\n" + "".join(f"int f{n}(int x) {{ return x * {n}; }}\n" for n in range(3000)) + """
int main(void) { return printf("%d\\n", f7(6)) != 3; }
"""
QUIET = {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}


class Programs(ExecService):
    """The services, and one for `tlsbroker connect`. `drain` is for both kinds of end: a reload's and the last."""

    def __init__(self, drain="30s"):
        self.drain, self.rounds, self.turn = drain, 0, 0
        super().__init__(PROGRAMS, lines=LINES, daemons=("distccd",))

    def write_config(self, config):
        config = config.replace("[broker]\n", f'[broker]\nca_file = "{self.certificate.chain}"\ndrain_timeout = "{self.drain}"\n')
        self.config = config + CLIENT.format(port=testlib.free_port())
        super().write_config(self.config.replace("{turn}", "0"))

    def start(self):
        data = random.Random(7)
        git = dict(os.environ, **QUIET)
        for name, size in ((SMALL, 1000), (LARGE, 16 * MIB)):
            os.makedirs(os.path.join(self.home, "data", name))
            with open(os.path.join(self.home, "data", name, "file"), "wb") as file:
                file.write(data.randbytes(size))
            for number in range(50):
                with open(os.path.join(self.home, "data", name, str(number)), "wb") as file:
                    file.write(data.randbytes(100))
            # git serves only the repositories of its own user.
            tree, bare = os.path.join(self.home, "tree-" + name), os.path.join(self.home, "git", name)
            shutil.copytree(os.path.join(self.home, "data", name), tree)
            for words in (["init", "-q", "-b", "main", tree], ["-C", tree, "add", "."],
                          ["-C", tree, "-c", "user.name=n", "-c", "user.email=e@localhost", "commit", "-q", "-m", "all"],
                          ["clone", "-q", "--bare", tree, bare]):
                subprocess.run(["git", *words], env=git, check=True, capture_output=True)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "www-data:", os.path.join(self.home, "git")], check=True)
        self.write("rsyncd.conf", RSYNCD.format(home=self.home))
        self.write("gate.py", GATE)
        self.write("program.c", SOURCE)
        super().start()

    def write(self, name, text):
        path = os.path.join(self.home, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o755)
        return path

    def connect_command(self, service):
        return [TOOL, "connect", "--socket", os.path.join(self.directory, "run", "client.sock"), "--name", "localhost",
                "--end-after", "0", "127.0.0.1", str(self.ports[service])]

    def connector(self, service):
        """A program that connects standard input and output with the service, whatever its arguments are."""
        return self.write("to-" + service, f"#!/bin/sh\nexec {' '.join(self.connect_command(service))}\n")

    def gate(self, service, place, after):
        gate = ["/usr/bin/python3", "-S", os.path.join(self.home, "gate.py"), place, str(after), *self.connect_command(service)]
        return self.write(os.path.join(place, "gate"), f"#!/bin/sh\nexec {' '.join(gate)}\n")

    def reload(self, workers):
        """Keyholders and handshakers of all services are replaced, since their settings have changed; with `workers` their
        workers, too. Returns what the command says."""
        self.rounds += 1
        config = self.config.replace('ktls = "prefer"', f'ktls = "prefer"\nmax_handshakes = {1000 + self.rounds}')
        if workers:
            self.turn += 1
        testlib.Broker.write_config(self, config.replace("{turn}", str(self.turn)))
        done = subprocess.run([TOOL, "reload", "--runtime-dir", os.path.join(self.directory, "run")], capture_output=True,
                              text=True, timeout=60 * testlib.PATIENCE, check=False)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout


class Inetd:
    """Runs a command for each plain connection."""

    def __init__(self, words, user):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                subprocess.run(words, stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL, user=user, check=False)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", testlib.free_port()), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.server.shutdown()
        self.server.server_close()


class Operation:
    """A client's command, its environment, and what has to come of it: check(output) raises AssertionError."""

    def __init__(self, words, check, environment=()):
        self.words, self.check = words, check
        self.environment = dict(os.environ, **QUIET, **dict(environment))

    def start(self):
        return subprocess.Popen(self.words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True)

    def finish(self, process):
        output, errors = process.communicate(timeout=120 * testlib.PATIENCE)
        if process.returncode != 0:
            raise AssertionError(f"{self.words}: {process.returncode} {errors.decode('utf-8', 'replace')}")
        self.check(output)


def same(one, two):
    """Raises AssertionError unless both directories have the same files."""
    names = sorted(os.listdir(one))
    if names != sorted(set(os.listdir(two)) - {".git"}):
        raise AssertionError(f"{names} {sorted(os.listdir(two))}")
    _, different, unreadable = filecmp.cmpfiles(one, two, names, shallow=False)
    if different or unreadable:
        raise AssertionError(f"{different} {unreadable}")


class Operations:
    """`connect`: the program that connects, or the port of a plain server. `place`: an empty directory for what comes of it."""

    def __init__(self, service):
        self.service, self.home = service, service.home

    def data(self, size):
        return os.path.join(self.home, "data", size)

    @staticmethod
    def rsync_address(connect):
        if isinstance(connect, str):
            return "rsync://localhost", {"RSYNC_CONNECT_PROG": connect, "RSYNC_PROXY": ""}
        return f"rsync://127.0.0.1:{connect}", {}

    def rsync_get(self, connect, place, size):
        address, environment = self.rsync_address(connect)
        got = os.path.join(place, "got")
        return Operation(["rsync", "-a", "--no-owner", "--no-group", f"{address}/data/{size}/", got],
                         lambda _: same(self.data(size), got), environment)

    def rsync_put(self, connect, place, size):
        address, environment = self.rsync_address(connect)
        name = f"rsync-{os.path.basename(place)}"
        return Operation(["rsync", "-a", "--no-owner", "--no-group", self.data(size) + "/", f"{address}/in/{name}/"],
                         lambda _: same(self.data(size), os.path.join(self.service.writable, name)), environment)

    def git_clone(self, connect, place, size):
        got = os.path.join(place, "got")
        address = f"git://localhost/{size}"
        proxy = ["-c", f"core.gitProxy={connect}"]
        if not isinstance(connect, str):
            proxy, address = [], f"git://127.0.0.1:{connect}/{size}"
        return Operation(["git", *proxy, "clone", "-q", address, got], lambda _: same(self.data(size), got))

    def pack_clone(self, connect, place, size):
        """git-upload-pack without git's daemon, which has only the one repository."""
        assert size == LARGE
        got = os.path.join(place, "got")
        command = connect if isinstance(connect, str) else f"git-upload-pack {self.home}/git/{size}"
        options = ["-c", "protocol.ext.allow=always", "-c", "safe.directory=*"]
        return Operation(["git", *options, "clone", "-q", f"ext::{command}", got],
                         lambda _: same(self.data(size), got))

    def http_get(self, connect, place, size):
        """curl speaks TLS by itself."""
        def check(output):
            with open(os.path.join(self.data(size), "file"), "rb") as file:
                assert output == file.read(), len(output)

        address = f"https://localhost:{self.service.ports['httpd']}"
        if not isinstance(connect, str):
            address = f"http://127.0.0.1:{connect}"
        return Operation(["curl", "-sS", "--fail", "--cacert", self.service.certificate.chain, f"{address}/{size}/file"], check)

    def sftp(self, connect, place, commands, check):
        batch = os.path.join(place, "batch")
        with open(batch, "w", encoding="ascii") as file:
            file.write(commands)
        how = ["-S", connect, "localhost"] if isinstance(connect, str) else ["-D", "/usr/lib/openssh/sftp-server"]
        return Operation(["sftp", "-q", "-b", batch, *how], check)

    def sftp_get(self, connect, place, size):
        got = os.path.join(place, "got")
        return self.sftp(connect, place, f"get -r {self.data(size)} {got}\n", lambda _: same(self.data(size), got))

    def sftp_put(self, connect, place, size):
        there = os.path.join(self.service.writable, f"sftp-{os.path.basename(place)}")
        return self.sftp(connect, place, f"put -r {self.data(size)} {there}\n", lambda _: same(self.data(size), there))

    def distcc(self, connect, place, size):
        del size
        target = os.path.join(place, "program.o")

        def check(_):
            """What was compiled is a program that works."""
            program = os.path.join(place, "program")
            subprocess.run(["gcc", "-o", program, target], check=True, capture_output=True)
            done = subprocess.run([program], capture_output=True, check=False)
            assert (done.returncode, done.stdout) == (0, b"42\n"), done

        environment = {"DISTCC_FALLBACK": "0", "DISTCC_DIR": place, "DISTCC_HOSTS": f"127.0.0.1:{connect}"}
        if isinstance(connect, str):
            environment.update(DISTCC_SSH=connect, DISTCC_HOSTS="@localhost")
        return Operation(["distcc", "gcc", "-c", os.path.join(self.home, "program.c"), "-o", target], check, environment)


# Of each service: what its clients do.
TRANSFERS = {
    "rsync": [Operations.rsync_get, Operations.rsync_put],
    "git": [Operations.git_clone],
    "pack": [Operations.pack_clone],
    "httpd": [Operations.http_get],
    "sftp": [Operations.sftp_get, Operations.sftp_put],
    "distccd": [Operations.distcc],
}


def descendants(pid):
    found = testlib.children(pid)
    return found + [below for child in found for below in descendants(child)]


def command_of(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode("utf-8", "replace").replace("\0", " ").strip()
    return ""


class Started:
    """A transfer that has begun, and waits: the client's connector at its gate, curl for a reader of its output."""

    def __init__(self, test, service, kind):
        self.place, self.name = test.place(), f"{service} {kind.__name__}"
        after = 50_000 if kind is Operations.distcc else MIB
        log = len(test.service.log)
        self.operation = kind(test.operations, test.service.gate(service, self.place, after), self.place, LARGE)
        self.process = self.operation.start()
        test.addCleanup(self.kill)
        self.connection = test.service.wait_for_log(rf"connection conn=(\w+) service={service} ", start=log)[1]
        if kind is Operations.http_get:
            test.assertTrue(select.select([self.process.stdout], [], [], 30 * testlib.PATIENCE)[0])
        else:
            testlib.wait_until(lambda: os.path.exists(os.path.join(self.place, "waits")), f"transfer of {self.name}", 30)

    def under_way(self, service):
        return self.process.poll() is None and not re.search(rf"ended conn={self.connection}", service.log_text())

    def go_on(self):
        with open(os.path.join(self.place, "go"), "w", encoding="ascii"):
            pass

    def finish(self):
        self.go_on()
        self.operation.finish(self.process)

    def kill(self):
        """The client and its connector, which it may have left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Transfers(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-transfers-"))

    def place(self):
        """A new directory for what comes of one transfer."""
        return tempfile.mkdtemp(dir=self.directory)


class ExecPrograms(Transfers):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(Programs())
        cls.operations = Operations(cls.service)

    def seconds(self, kind, connect, size):
        """The shortest of three."""
        times = []
        for _ in range(3):
            place = self.place()
            operation = kind(self.operations, connect, place, size)
            begun = time.monotonic()
            process = operation.start()
            # finish() checks what has come, too, which is not the operation's time.
            output, errors = process.communicate(timeout=120 * testlib.PATIENCE)
            times.append(time.monotonic() - begun)
            self.assertEqual(process.returncode, 0, (operation.words, errors))
            operation.check(output)
            shutil.rmtree(place)
        return min(times)

    @staticmethod
    def accepts(port):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 10 * testlib.PATIENCE):
            return True
        return False

    @contextlib.contextmanager
    def plain(self, service):
        """The port of the same program without TLS; None where the client starts it itself."""
        user = "www-data" if os.geteuid() == 0 else None
        words = [word.replace("{home}", self.service.home) for word in PROGRAMS[service]]
        if service in ("pack", "sftp"):
            yield None
        elif service == "distccd":
            port = testlib.free_port()
            words[words.index("3632")] = str(port)
            daemon = subprocess.Popen(words, stderr=subprocess.DEVNULL, user=user)
            try:
                testlib.wait_until(lambda: self.accepts(port), "distccd")
                yield port
            finally:
                daemon.terminate()
                daemon.wait(20 * testlib.PATIENCE)
        else:
            with Inetd(words, user) as server:
                yield server.port

    def test_the_same_as_plain(self):
        """The time with TLS has the client's side in it: `tlsbroker connect`, its handshake, and a relay there too. Without TLS,
        sftp and the client of git-upload-pack start the program themselves."""
        rows = []
        for service, kinds in TRANSFERS.items():
            with self.plain(service) as port:
                for kind in kinds:
                    for size in (LARGE,) if service == "pack" else ("program",) if service == "distccd" else (SMALL, LARGE):
                        with self.subTest(service=service, kind=kind.__name__, size=size):
                            tls = self.seconds(kind, self.service.connector(service), size)
                            rows.append((kind.__name__, size, tls, self.seconds(kind, port, size)))
        print("\n" + f"{'operation':12} {'size':8} {'TLS':>8} {'plain':>8}  (seconds)")
        for name, size, tls, plain in rows:
            print(f"{name:12} {size:8} {tls:8.3f} {plain:8.3f}")

    def test_a_reload_meanwhile(self):
        """What is under way ends whole, even if the worker is replaced."""
        for workers in (False, True):
            for service, kinds in TRANSFERS.items():
                for kind in kinds:
                    with self.subTest(service=service, kind=kind.__name__, workers=workers):
                        transfer, start = Started(self, service, kind), len(self.service.log)
                        self.assertIn(service, self.service.reload(workers))
                        if workers:
                            self.service.wait_for_log(rf"started role=worker service={service}", start=start)
                        self.assertTrue(transfer.under_way(self.service))
                        transfer.finish()

    def test_distccd_needs_an_internet_address(self):
        """tlsbroker-exec(1): not by `exec`; so it is behind `daemon` in the other tests."""
        start = len(self.service.log)
        process = self.operations.distcc(self.service.connector("distccd-inetd"), self.place(), LARGE).start()
        process.communicate(timeout=120 * testlib.PATIENCE)
        self.assertNotEqual(process.returncode, 0)
        self.service.wait_for_log(r"distccd-inetd.* stderr .*unsupported address family", start=start)


class Stop(Transfers):
    def test_nothing_is_left(self):
        """The broker is told to end while a transfer of each kind is under way, and has a second for that. Their clients take no
        part for the whole."""
        self.service = self.enterContext(Programs(drain="1s"))
        self.operations = Operations(self.service)
        transfers = [Started(self, service, kind) for service, kinds in TRANSFERS.items() for kind in kinds]
        for transfer in transfers:
            self.assertTrue(transfer.under_way(self.service), transfer.name)
        processes = descendants(self.service.process.pid)
        running = [command_of(pid).split(" ")[0] for pid in processes]
        for service in TRANSFERS:
            self.assertIn(PROGRAMS[service][0], running)
        self.assertEqual(self.service.stop(), 0)
        self.assertEqual([pid for pid in processes if os.path.exists(f"/proc/{pid}")], [])
        for transfer in transfers:
            with self.subTest(transfer.name):
                self.assertRaises(AssertionError, transfer.finish)
        home = self.service.home
        self.assertEqual([words for words in map(command_of, filter(str.isdigit, os.listdir("/proc"))) if home in words], [])


if __name__ == "__main__":
    testlib.main()
