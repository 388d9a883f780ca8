# SPDX-License-Identifier: Apache-2.0
"""Servers from Debian's packages, unmodified, behind `daemon`. daemons/NAME.toml is the configuration of each, with what the
program itself reads beside it.

What is asked of each: an operation of its own, with the answer checked; a reload with new certificates while a transfer and an
idle connection are open; and a stop after which nothing is left. The times of each operation, beside those of the same program
without the broker, are printed at the end, and are no condition."""

import base64
import contextlib
import functools
import hashlib
import http.client
import http.server
import json
import os
import pwd
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
import tomllib
import unittest

import broker as testlib
import echo_service

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "daemons")
CONFIG = """
[broker]
runtime_dir = "{{runtime_dir}}"
user = "nobody"
drain_timeout = "{drain}"
max_handshakes_per_source = 1000
handshake_timeout = "60s"
[certificate.c]
chain = "{certificate.chain}"
key = "{certificate.key}"
"""
# A client's handshakes and a program's start take long in a guest.
LIMIT = 60 if testlib.GUEST else 20
RUNS = 3 if testlib.GUEST else 15
UPLOAD = random.Random(7).randbytes(100000)
PAGE = b"hello\n" * 2000
USER = pwd.getpwnam("www-data")
# (program, operation, milliseconds of the plain one, milliseconds behind the broker). The time of an operation on a new
# connection begins when that is connected.
TIMES = []


def tearDownModule():
    if not TIMES:
        return
    print(f"\n  {'milliseconds, median':61} {'plain':>7}  {'broker':>7}")
    for name, what, plain, broker in TIMES:
        print(f"  {name:20} {what:40} {plain:7.2f}  {broker:7.2f}", flush=True)


def median(seconds):
    """In milliseconds."""
    return statistics.median(seconds) * 1000


def without_delay(connection):
    """As most clients of these servers do."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def descendants(pid):
    found = testlib.children(pid)
    return found + [other for child in found for other in descendants(child)]


class Surroundings:
    """Who is in the mount namespaces of some processes. A worker has its own, which no process of its daemon can leave, also
    not one whose parent has ended. They are held open, so that their numbers are not given to others."""

    def __init__(self, pids):
        self.descriptors = [os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY) for pid in pids]
        self.numbers = {os.fstat(fd).st_ino for fd in self.descriptors}
        assert os.stat("/proc/self/ns/mnt").st_ino not in self.numbers

    def close(self):
        for fd in self.descriptors:
            os.close(fd)

    def processes(self):
        """{pid: command}"""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):  # or it is not ours
                if os.stat(f"/proc/{pid}/ns/mnt").st_ino in self.numbers:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        found[int(pid)] = file.read().replace(b"\0", b" ").decode()
        return found


class Home:
    """The directory of one program: the files of daemons/, with the names in braces filled in."""

    def __init__(self, name, backend=0):
        self.name = name
        self.path = tempfile.mkdtemp(prefix="tlsbroker-daemon-")
        os.chmod(self.path, 0o755)
        self.writable = os.path.join(self.path, "writable")
        self.ports = {word: testlib.free_port() for word in ("listen", "port", "other")}
        self.port = self.ports["port"]
        self.words = {"home": self.path, "backend": backend, **self.ports}
        os.makedirs(os.path.join(self.path, "documents"))
        with open(os.path.join(self.path, "documents", "page"), "wb") as file:
            file.write(PAGE)
        os.mkdir(self.writable)
        os.chown(self.writable, USER.pw_uid, USER.pw_gid)
        for entry in os.listdir(HERE):
            if os.path.isfile(os.path.join(HERE, entry)):
                shutil.copy(os.path.join(HERE, entry), self.path)
                self.write(entry, self.filled(entry))
        self.toml = self.filled(f"{name}.toml")

    def filled(self, entry):
        with open(os.path.join(HERE, entry), encoding="utf-8") as file:
            text = file.read()
        for word, value in self.words.items():
            text = text.replace("{%s}" % word, str(value))
        return text

    def write(self, entry, text):
        with open(os.path.join(self.path, entry), "w", encoding="utf-8") as file:
            file.write(text)

    def worker(self):
        return tomllib.loads(self.toml)["service"][self.name]["worker"]

    def run(self, *command):
        """As the daemon's user."""
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT * testlib.PATIENCE, cwd="/", user=USER.pw_uid,
                       group=USER.pw_gid, extra_groups=[], env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def started_without_broker(home):
    """The daemon of the home's TOML, started by hand with the same user, directory and environment."""
    worker = home.worker()
    with open(os.path.join(home.path, "plain.log"), "w+b") as log:
        os.fchown(log.fileno(), USER.pw_uid, USER.pw_gid)
        daemon = subprocess.Popen(
            worker["daemon"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            cwd=worker.get("directory", "/"), env={"PATH": os.environ["PATH"], **worker.get("environment", {})},
            user=USER.pw_uid, group=USER.pw_gid, extra_groups=[])
        try:
            def listens():
                if daemon.poll() is not None:
                    log.seek(0)
                    raise AssertionError(f"{worker['daemon'][0]} has ended: {log.read().decode()}")
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", home.port)).close()
                    return True
            testlib.wait_until(listens, f"listener of {worker['daemon'][0]}", LIMIT)
            yield
        finally:
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10 * testlib.PATIENCE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


@functools.cache
def built(compiler, *sources):
    """A directory with what the compiler makes of the sources."""
    directory = tempfile.mkdtemp(prefix="tlsbroker-daemon-")
    unittest.addModuleCleanup(shutil.rmtree, directory, ignore_errors=True)
    subprocess.run([word.replace("{out}", directory) for word in compiler] + [os.path.join(HERE, source) for source in sources],
                   check=True, capture_output=True, timeout=600 * testlib.PATIENCE, cwd=directory,
                   env={"PATH": os.environ["PATH"], "HOME": directory, "GO111MODULE": "off"})
    return directory


class Case:
    """What is asked of a program. Subclasses have its name, open() and operations() for its protocol, and hold()."""

    name = None
    ktls = "prefer"
    direct = False      # hand over connections as they are; needs kernel TLS
    keeps = True        # whether a connection is good for several operations
    backend = None      # a class of servers that the program asks
    extra = ""          # more of the configuration

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        if self.direct:
            echo_service.require_ktls()
        self.mode = "direct" if self.ktls != "never" and echo_service.kernel_has_tls() else "relay"
        self.backend_port = self.enterContext(self.backend()) if self.backend else 0

    def home(self):
        home = Home(self.name, self.backend_port)
        self.addCleanup(home.remove)
        self.prepare(home)
        return home

    def prepare(self, home):
        """Makes what the program needs before its start."""

    def start(self, drain="10m"):
        """Starts the broker with the program, and waits until that answers."""
        self.place = self.home()
        self.port = self.place.ports["listen"]
        self.certificate = testlib.Certificate(self.place.path)
        self.context = testlib.tls_context(self.certificate)
        toml = self.place.toml
        if self.direct:
            network = "" if "network = true" in toml else "network = true\n"
            toml = toml.replace("daemon = [", f"{network}direct = true\ndaemon = [")
        toml = toml.replace("certificates =", f'ktls = "{self.ktls}"\ncertificates =', 1)
        extra = self.extra.format(certificate=self.certificate, home=self.place, port=self.port)
        self.broker = self.enterContext(testlib.Broker(
            CONFIG.format(certificate=self.certificate, drain=drain) + toml + extra))
        try:
            self.wait_ready(self.tls)
        except Exception as error:
            raise AssertionError(self.broker.log_text()) from error
        self.broker.wait_for_log(f"service={self.name} .* mode={self.mode}")
        self.workers = self.broker.processes()["worker"]
        self.surroundings = Surroundings(self.workers)
        self.addCleanup(self.surroundings.close)

    def tls(self):
        return without_delay(testlib.tls_connect(self.port, self.context, timeout=LIMIT))

    def open(self, connect):
        """The client's side of a connection that `connect` makes; it has a close()."""
        raise NotImplementedError

    def operations(self):
        """{name: function of what open() returns}"""
        raise NotImplementedError

    def hold(self, client):
        """Begins a transfer that lasts, and returns a function that brings it to its end and checks it."""
        raise NotImplementedError

    def once(self, connect):
        for operation in self.operations().values():
            with contextlib.closing(self.open(connect)) as client:
                operation(client)

    def wait_ready(self, connect):
        """Waits until the operations succeed."""
        self.once(connect)

    def measure(self, connect):
        found = {}
        for what, operation in self.operations().items():
            connecting, alone = [], []
            for _ in range(RUNS):
                begin = time.monotonic()
                connection = connect()
                connected = time.monotonic()
                with contextlib.closing(self.open(lambda: connection)) as client:  # pylint: disable=cell-var-from-loop
                    operation(client)
                alone.append(time.monotonic() - connected)
                connecting.append(connected - begin)
            found.setdefault("connecting", median(connecting))
            found[f"{what}, new connection"] = median(alone)
            if self.keeps:
                kept = []
                with contextlib.closing(self.open(connect)) as client:
                    operation(client)
                    for _ in range(RUNS):
                        begin = time.monotonic()
                        operation(client)
                        kept.append(time.monotonic() - begin)
                found[f"{what}, open connection"] = median(kept)
        return found

    def test_answers_and_how_long_that_takes(self):
        self.start()
        behind = self.measure(self.tls)
        self.more()
        place = self.home()
        with started_without_broker(place):
            def connect():
                return without_delay(socket.create_connection(("127.0.0.1", place.port), LIMIT * testlib.PATIENCE))
            self.wait_ready(connect)
            plain = self.measure(connect)
        name = self.name + (", direct" if self.direct else "")
        TIMES.extend((name, what, plain[what], behind[what]) for what in plain)

    def more(self):
        """What is to be asked once by the program's own clients."""

    def test_reload(self):
        """With new certificates, so that other processes of the broker do the handshakes from then on."""
        self.start()
        daemons = {pid: testlib.children(pid) for pid in self.workers}
        operation = next(iter(self.operations().values()))
        if self.keeps:
            idle = self.enterContext(contextlib.closing(self.open(self.tls)))
            operation(idle)
        client = self.enterContext(contextlib.closing(self.open(self.tls)))
        self.certificate = testlib.Certificate(self.place.path)
        finish = self.hold(client)
        done = subprocess.run([testlib.program("client-lib/tools/tlsbroker"), "reload", "--runtime-dir",
                               os.path.join(self.broker.directory, "run")], capture_output=True, text=True,
                              timeout=200 * testlib.PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, f"new processes: .*{self.name}")
        self.context = testlib.tls_context(self.certificate)
        self.once(self.tls)
        finish()
        if self.keeps:
            operation(idle)
        self.once(self.tls)
        self.assertEqual({pid: testlib.children(pid) for pid in self.broker.processes()["worker"]}, daemons)

    def test_stop(self):
        """Also with a connection that the client keeps open."""
        self.start(drain="500ms")
        processes = self.surroundings.processes()
        self.assertTrue(set(descendants(self.workers[0])) <= set(processes), processes)
        watched = [os.pidfd_open(pid) for pid in processes]
        for fd in watched:
            self.addCleanup(os.close, fd)
        with contextlib.closing(self.open(self.tls)) as client:
            next(iter(self.operations().values()))(client)
            self.broker.signal(signal.SIGTERM)
            self.assertEqual(self.broker.process.wait(60 * testlib.PATIENCE), 0, self.broker.log_text())
        left = self.surroundings.processes()
        self.assertEqual(left, {}, self.broker.log_text())
        # Without the machine's network the daemon's port is in a network that is gone with the last process.
        ports = [self.port]
        if self.direct or self.place.worker().get("network"):
            ports.append(self.place.port)
        for port in ports:
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()


class Http(Case):
    def open(self, connect):
        client = http.client.HTTPConnection("localhost", timeout=LIMIT * testlib.PATIENCE)
        client.auto_open = 0  # it would know nothing of TLS
        client.sock = connect()
        return client

    def answer(self, client):
        answer = client.getresponse()
        body = answer.read()
        self.assertEqual(answer.status, 200, body)
        return body

    def get(self, client):
        client.request("GET", "/page")
        self.assertEqual(self.answer(client), PAGE)

    def post(self, client):
        client.request("POST", "/digest", UPLOAD)
        self.is_digest(self.answer(client))

    def is_digest(self, answer):
        self.assertEqual(answer.split()[0].decode(), hashlib.sha256(UPLOAD).hexdigest())

    def operations(self):
        return {"GET 12,000 bytes": self.get, "POST 100,000 bytes": self.post}

    def upload(self):
        """The path and the body of a request, and what checks the answer."""
        return "/digest", UPLOAD, self.is_digest

    def hold(self, client):
        path, body, check = self.upload()
        client.putrequest("POST", path)
        client.putheader("Content-Length", str(len(body)))
        client.endheaders(body[:50000])

        def finish():
            client.send(body[50000:])
            check(self.answer(client))
        return finish


class Gunicorn(Http, unittest.TestCase):
    name, keeps = "gunicorn", False


class Uvicorn(Http, unittest.TestCase):
    name = "uvicorn"


class Uwsgi(Http, unittest.TestCase):
    name, keeps = "uwsgi", False


class UwsgiSocket(Http, unittest.TestCase):
    name, keeps = "uwsgi-socket", False


class Unicorn(Http, unittest.TestCase):
    name, keeps = "unicorn", False


class Puma(Http, unittest.TestCase):
    name = "puma"


class ApachePrefork(Http, unittest.TestCase):
    name = "apache-prefork"


class ApacheEvent(Http, unittest.TestCase):
    name = "apache-event"


class Php(Http, unittest.TestCase):
    name, keeps = "php", False


class Go(Http, unittest.TestCase):
    name = "go"

    def prepare(self, home):
        shutil.copy(os.path.join(built(("go", "build", "-o", "{out}/server"), "server.go"), "server"), home.path)


class Java(Http, unittest.TestCase):
    name = "java"

    def prepare(self, home):
        shutil.copy(os.path.join(built(("javac", "-d", "{out}"), "Server.java"), "Server.class"), home.path)


class Node(Http, unittest.TestCase):
    name = "node"


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer(PAGE)

    def do_POST(self):
        self.answer(hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode())

    def log_message(self, *unused):  # pylint: disable=arguments-differ
        pass


@contextlib.contextmanager
def pages():
    """The port of an HTTP server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.asked = Varnish.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Varnish(Http, unittest.TestCase):
    name, backend = "varnish", staticmethod(pages)
    asked = []

    def more(self):
        self.assertEqual(self.asked, ["/page"], "all others came from the cache")


class Etcd(Http, unittest.TestCase):
    """By its gateway, which makes HTTP with JSON into gRPC, for which it connects to its own port."""

    name = "etcd"
    key, value = base64.b64encode(b"key").decode(), base64.b64encode(UPLOAD).decode()

    def call(self, client, what, **request):
        client.request("POST", f"/v3/kv/{what}", json.dumps(request))
        return json.loads(self.answer(client))

    def put(self, client):
        self.assertIn("revision", self.call(client, "put", key=self.key, value=self.value)["header"])

    def get(self, client):
        (found,) = self.call(client, "range", key=self.key)["kvs"]
        self.assertEqual(found["value"], self.value)

    def operations(self):
        return {"put 100,000 bytes": self.put, "get 100,000 bytes": self.get}

    def upload(self):
        body = json.dumps({"key": self.key, "value": self.value}).encode()
        return "/v3/kv/put", body, lambda answer: self.assertIn("revision", json.loads(answer)["header"])

    def more(self):
        """etcdctl speaks gRPC, which is HTTP/2."""
        def etcdctl(*words):
            return subprocess.run(["etcdctl", "--endpoints", f"https://localhost:{self.port}", "--cacert", self.certificate.chain,
                                   *words], env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"}, capture_output=True, text=True,
                                  timeout=60 * testlib.PATIENCE, check=True).stdout
        self.assertEqual(etcdctl("put", "colour", "blue"), "OK\n")
        self.assertEqual(etcdctl("get", "colour"), "colour\nblue\n")


class Bind(Case, unittest.TestCase):
    """DNS over TLS (RFC 7858)."""

    name = "bind"
    hosts = 40000

    def prepare(self, home):
        lines = ["$TTL 3600", "@ SOA ns hostmaster 1 3600 600 86400 3600", "@ NS ns", "ns A 192.0.2.1", "www A 192.0.2.80"]
        lines += [f'host{number} TXT "{"x" * 100}"' for number in range(self.hosts)]
        home.write("example.zone", "\n".join(lines) + "\n")

    def open(self, connect):
        return connect()

    @staticmethod
    def query(kind, *labels):
        name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        message = struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + name + struct.pack("!HH", kind, 1)
        return struct.pack("!H", len(message)) + message

    @staticmethod
    def message(client):
        def exactly(size):
            data = b""
            while len(data) < size:
                data += (piece := client.recv(size - len(data)))
                if not piece:
                    raise EOFError(f"{len(data)} of {size} bytes")
            return data
        return exactly(*struct.unpack("!H", exactly(2)))

    def address(self, client):
        client.sendall(self.query(1, b"www", b"example", b"org"))
        answer = self.message(client)
        self.assertEqual(answer[3] & 15, 0)
        self.assertIn(bytes([0, 4, 192, 0, 2, 80]), answer)

    def operations(self):
        return {"query": self.address}

    def wait_ready(self, connect):
        """It listens before it has read its zones."""
        def answers():
            with contextlib.closing(self.open(connect)) as client:
                client.sendall(self.query(1, b"www", b"example", b"org"))
                return self.message(client)[3] & 15 == 0
        testlib.wait_until(answers, "zone", LIMIT)

    def hold(self, client):
        """A transfer of the zone."""
        client.sendall(self.query(252, b"example", b"org"))
        first = self.message(client)

        def finish():
            records = struct.unpack_from("!H", first, 6)[0]
            while records < self.hosts + 5:
                records += struct.unpack_from("!H", self.message(client), 6)[0]
            self.assertEqual(records, self.hosts + 5)  # the SOA record comes first and last
        return finish

    def more(self):
        def dig(*words):
            return subprocess.run(["dig", "+tls", f"+tls-ca={self.certificate.chain}", "+tls-hostname=localhost", "@127.0.0.1",
                                   "-p", str(self.port), *words], capture_output=True, text=True, timeout=60 * testlib.PATIENCE,
                                  check=True).stdout
        self.assertEqual(dig("+short", "www.example.org"), "192.0.2.80\n")
        self.assertEqual(dig("+noall", "+answer", "+onesoa", "axfr", "example.org").count("TXT"), self.hosts)


class Starting(Exception):
    pass


class Session:
    """As much of PostgreSQL's protocol as a query needs."""

    def __init__(self, connection):
        self.socket = connection
        self.stream = connection.makefile("rb")
        words = b"user\0www-data\0database\0postgres\0\0"
        self.socket.sendall(struct.pack("!II", len(words) + 8, 0x30000) + words)
        try:
            self.answer()
        except BaseException:
            self.close()
            raise

    def message(self):
        kind, size = struct.unpack("!cI", self.stream.read(5))
        return kind, self.stream.read(size - 4)

    def answer(self):
        """All messages until the server is ready for the next query."""
        messages = []
        while not messages or messages[-1][0] != b"Z":
            messages.append(self.message())
            if messages[-1][0] == b"E":
                text = messages[-1][1].decode()
                raise Starting if "\0C57P03\0" in text else AssertionError(text)
        return messages

    def send(self, text):
        text = text.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)

    def value(self, text):
        """The one value that the query gives."""
        self.send(text)
        (row,) = [body for kind, body in self.answer() if kind == b"D"]
        return row[6:].decode()

    def close(self):
        self.stream.close()
        self.socket.close()


class Postgresql(Case, unittest.TestCase):
    """A client before libpq 17 negotiates TLS by PostgreSQL's own protocol; behind the broker it begins with TLS. Older ones get
    there by `tlsbroker connect`."""

    name = "postgresql"
    extra = """
[upstream.database]
address = "127.0.0.1:{port}"
name = "localhost"
ca_file = "{certificate.chain}"
[service.clients]
listen = ["127.0.0.1:{home.ports[other]}"]
certificates = ["c"]
dial = ["database"]
allow_users = ["www-data"]
"""

    def prepare(self, home):
        programs = os.path.dirname(home.worker()["daemon"][0])
        home.run(os.path.join(programs, "initdb"), "-D", os.path.join(home.writable, "data"), "--auth=trust", "--no-sync")

    def open(self, connect):
        return Session(connect())

    def wait_ready(self, connect):
        """It listens before it has read its files."""
        def answers():
            with contextlib.suppress(Starting):
                self.once(connect)
                return True
        testlib.wait_until(answers, "database", LIMIT)

    def select(self, session):
        self.assertEqual(session.value("SELECT 6 * 7"), "42")

    def upload(self, session):
        text = UPLOAD.hex()[:100000]
        self.assertEqual(session.value(f"SELECT md5('{text}')"), hashlib.md5(text.encode()).hexdigest())

    def operations(self):
        return {"SELECT": self.select, "SELECT md5(100,000 bytes)": self.upload}

    def hold(self, session):
        session.send("COPY (SELECT repeat('x', 100) FROM generate_series(1, 100000)) TO STDOUT")

        def finish():
            self.assertEqual([body for kind, body in session.answer() if kind == b"d"], [b"x" * 100 + b"\n"] * 100000)
        return finish

    def more(self):
        """psql, whose server is a socket behind which `tlsbroker connect` is started."""
        path = os.path.join(self.place.path, ".s.PGSQL.5432")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            psql = subprocess.Popen(["psql", "-h", self.place.path, "-U", "www-data", "-Atc", "SELECT 6 * 7", "postgres"],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            with psql, listener.accept()[0] as connection:
                connect = [testlib.program("client-lib/tools/tlsbroker"), "connect", "--socket",
                           os.path.join(self.broker.directory, "run", "clients.sock"), "database"]
                with subprocess.Popen(connect, stdin=connection, stdout=connection, stderr=subprocess.PIPE) as bridge:
                    connection.close()
                    self.assertEqual(psql.communicate(timeout=60 * testlib.PATIENCE)[0], b"42\n")
                    self.assertEqual((bridge.communicate(timeout=60 * testlib.PATIENCE)[1], bridge.returncode), (b"", 0))


if testlib.GUEST:  # with kernel TLS, the connections as they are; by hand, since nothing below depends on the program
    class DirectGunicorn(Gunicorn):
        direct = True

    class DirectPuma(Puma):
        direct = True

    class DirectApacheEvent(ApacheEvent):
        direct = True


if __name__ == "__main__":
    unittest.main()
