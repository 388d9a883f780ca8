# SPDX-License-Identifier: Apache-2.0
"""Unmodified daemons behind `daemon`: Debian's nginx, redis and python. The tests run once for each way in which connections
reach them."""

import concurrent.futures
import hashlib
import os
import random
import re
import signal
import socket
import subprocess

import broker as testlib
from exec_service import ExecService

MIB = 2**20
NGINX = """
daemon off;
worker_processes 2;
pid {home}/writable/nginx.pid;
error_log {home}/writable/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log {home}/writable/access.log;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {home}/writable;
  proxy_temp_path {home}/writable;
  fastcgi_temp_path {home}/writable;
  uwsgi_temp_path {home}/writable;
  scgi_temp_path {home}/writable;
  server {{
    listen {listen};
    root {home};
    location = /who {{ return 200 "$remote_addr $server_addr $server_port $scheme\\n"; }}
    {extra}
  }}
}}
"""
REDIS = """
port {port}
bind 127.0.0.1
save ""
dir {home}/writable
"""
# Three processes in a blocking accept(2) on one listener. They answer with the client's address, and try what they may not do.
PREFORK = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(a) for a in arguments])
    return f"{number}:{ctypes.get_errno() if result < 0 else 'done'}"
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(2):
    if os.fork() == 0:
        break
while True:
    connection, address = listener.accept()
    line = connection.makefile("rb").readline().split()
    if line[:1] == [b"who"]:
        addresses = address, connection.getpeername(), connection.getsockname()
        answer = " ".join(f"{host} {port}" for host, port in addresses)
    elif line[:1] == [b"try"]:
        runner = os.getppid()
        pidfd = os.pidfd_open(runner)
        answer = " ".join([attempt(438, pidfd, 0, 0), attempt(310, runner, 0, 0, 0, 0, 0),
                           attempt(311, runner, 0, 0, 0, 0, 0), attempt(101, 16, runner, 0, 0), attempt(425, 1, 0)])
        try:
            answer += f" {len(connection.getsockopt(282, 1, 40))}"
        except OSError as error:
            answer += f" keys:{error.errno}"
        try:
            socket.create_connection(("127.0.0.1", int(line[1])), 2)
        except OSError as error:
            answer += f" network:{error.errno}"
    connection.sendall(answer.encode() + b"\\n")
    connection.close()
"""


def write_nginx_conf(home, listen="127.0.0.1:8080", extra="", front=""):
    path = os.path.join(home, "nginx.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(front + NGINX.format(home=home, listen=listen, extra=extra))
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Run:
    ktls = "prefer"
    direct = False
    many = 32 * MIB  # what each of eight clients gets at the same time
    mode = "relay"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Each daemon has a network namespace of its own, except with direct connections.
        direct = "direct = true\nnetwork = true\n" if cls.direct else ""
        cls.daemon_ports = {name: testlib.free_port() if cls.direct else 6379 if name == "redis" else 8080
                            for name in ("nginx", "redis", "python", "prefork")}
        ports = {name: str(port) for name, port in cls.daemon_ports.items()}
        files = 'read_only = ["{home}"]\nread_write = ["{home}/writable"]\n'
        programs = {
            "nginx": ["/usr/sbin/nginx", "-e", "{home}/writable/start.log", "-c", "{home}/nginx.conf"],
            "redis": ["/usr/bin/redis-server", "{home}/redis.conf"],
            "python": ["/usr/bin/python3", "-m", "http.server", "-b", "127.0.0.1", "-d", "{home}", ports["python"]],
            "prefork": ["/usr/bin/python3", "-c", PREFORK, ports["prefork"]],
        }
        lines = dict.fromkeys(programs, direct + files)
        lines["redis"] += f"port = {ports['redis']}\n"
        cls.service = ExecService(programs, lines=lines, ktls=cls.ktls, daemons=programs)
        home = cls.service.home
        write_nginx_conf(home, listen="127.0.0.1:" + ports["nginx"])
        for name, text in (("redis.conf", REDIS.format(home=home, port=ports["redis"])), ("page", "hello\n" * 20000)):
            with open(os.path.join(home, name), "w", encoding="ascii") as file:
                file.write(text)
        data = random.Random(5).randbytes(MIB)
        for name, size in (("large", 32 * MIB), ("many", cls.many)):
            with open(os.path.join(home, name), "wb") as file:
                for _ in range(size // MIB):
                    file.write(data)
        cls.enterClassContext(cls.service)

    def url(self, service, path):
        return f"https://localhost:{self.service.ports[service]}/{path}"

    def curl(self, service, *paths, source=None):
        source = ["--interface", source] if source else []
        done = subprocess.run(
            ["curl", "-sS", "--cacert", self.service.certificate.chain, *source,
             *[self.url(service, p) for p in paths]], capture_output=True, timeout=120 * testlib.PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def ask(self, service, text, source="127.0.0.1"):
        """Sends one line; returns the client's own address and the line that came back."""
        raw = socket.create_connection(("127.0.0.1", self.service.ports[service]), 20 * testlib.PATIENCE, (source, 0))
        with self.service.context().wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(text)
            return tls.getsockname(), tls.makefile("rb").readline().decode()

    def nginx_log(self, name):
        return read(os.path.join(self.service.home, "writable", name)).decode()

    def test_nginx_sends_a_large_file(self):
        expected = hashlib.sha256(read(os.path.join(self.service.home, "large"))).hexdigest()
        self.assertEqual(hashlib.sha256(self.curl("nginx", "large")).hexdigest(), expected)
        self.service.wait_for_log(f"service=nginx .* mode={self.mode}")

    def test_nginx_eight_at_once_and_keep_alive(self):
        expected = hashlib.sha256(read(os.path.join(self.service.home, "many"))).hexdigest()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda _: self.curl("nginx", "many"), range(8)):
                self.assertEqual(hashlib.sha256(answer).hexdigest(), expected)
        connections = re.compile(r"connection conn=\w+ .*service=nginx")
        before = len(connections.findall(self.service.log_text()))
        self.assertEqual(self.curl("nginx", *["page"] * 20), b"hello\n" * 20000 * 20)
        self.assertEqual(len(connections.findall(self.service.log_text())), before + 1)

    def test_nginx_sees_the_client(self):
        scheme = self.curl("nginx", "who", source="127.0.0.9").decode().split()
        # nginx takes the port from its configuration.
        self.assertEqual(scheme, ["127.0.0.9", "127.0.0.1", str(self.daemon_ports["nginx"]), "http"])
        line = re.compile(r"^127\.0\.0\.9 - .*GET /who ", re.MULTILINE)
        testlib.wait_until(lambda: line.search(self.nginx_log("access.log")), "line in the access log")

    def test_nginx_meets_no_errors(self):
        for _ in range(5):
            self.curl("nginx", "page", "page")
        log = self.nginx_log("error.log")
        if not self.direct:
            self.assertNotRegex(log, r"Input/output error|\[(alert|crit|emerg|error)\]")

    def redis(self, *arguments, stdin=b""):
        done = subprocess.run(
            ["redis-cli", "--tls", "--cacert", self.service.certificate.chain, "--sni", "localhost", "-h", "127.0.0.1",
             "-p", str(self.service.ports["redis"]), *arguments], input=stdin, capture_output=True,
            timeout=30 * testlib.PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def test_redis(self):
        self.assertEqual(self.redis("PING"), b"PONG\n")
        value = random.Random(6).randbytes(MIB).hex()[:MIB].encode()
        self.assertEqual(self.redis("-x", "SET", "large", stdin=value), b"OK\n")
        self.assertEqual(self.redis("GET", "large"), value + b"\n")

    def test_redis_sees_the_client(self):
        """Redis asks by getpeername(2), and lets clients from other addresses than loopback in only with a password."""
        raw = socket.create_connection(("127.0.0.1", self.service.ports["redis"]), 20 * testlib.PATIENCE,
                                       ("127.0.0.8", 0))
        with self.service.context().wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(b"CLIENT INFO\r\n")
            answer = tls.recv(4096).decode()
        self.assertIn("DENIED Redis is running in protected mode", answer)

    def test_python(self):
        self.assertEqual(self.curl("python", "page", "page"), b"hello\n" * 40000)

    def test_prefork_with_blocking_accept(self):
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            answers = list(pool.map(lambda _: self.ask("prefork", b"who\n", "127.0.0.7"), range(30)))
        port = self.service.ports["prefork"] if self.direct else self.daemon_ports["prefork"]
        for (host, own), answer in answers:
            self.assertEqual(answer.split(), [host, str(own)] * 2 + ["127.0.0.1", str(port)])

    def test_the_daemon_is_confined(self):
        _, answer = self.ask("prefork", b"try %d\n" % self.service.ports["prefork"])
        refused = " ".join(f"{number}:1" for number in (438, 310, 311, 101, 425))
        self.assertEqual(answer.strip(), f"{refused} keys:1" + ("" if self.direct else " network:111"))

    def daemons(self, word):
        """{pid of a daemon that has the word in its command: pid of its runner}"""
        return {child: pid for pid in self.service.processes()["worker"] for child in testlib.children(pid)
                if word in read(f"/proc/{child}/cmdline").decode()}

    def test_the_daemon_is_started_again(self):
        first, = testlib.wait_until(lambda: self.daemons("redis-server"), "redis")
        os.kill(first, signal.SIGKILL)
        self.service.wait_for_log(r"ended role=worker service=redis .*137")
        self.assertEqual(self.redis("PING"), b"PONG\n", "it has waited for the next one")
        self.assertNotIn(first, self.daemons("redis-server"))


class Bridged(Run):
    """What the runner can do only for bridged connections: it does not see direct ones, which only the daemon has."""

    def test_connections_are_finished_first(self):
        """SIGTERM asks a worker to finish what it has."""
        self.ask("prefork", b"who\n")
        runner, = self.daemons("create_server").values()
        connections = re.compile(r"connection conn=\w+ .*service=prefork")
        before = len(connections.findall(self.service.log_text()))
        with self.service.connect("prefork") as tls:
            tls.sendall(b"w")
            testlib.wait_until(lambda: len(connections.findall(self.service.log_text())) > before, "connection")
            os.kill(runner, signal.SIGTERM)
            self.service.wait_for_log("run: told to end")
            tls.sendall(b"ho\n")
            self.assertIn("127.0.0.1 ", tls.makefile("rb").readline().decode())
        self.service.wait_for_log("run: finished; ending the daemon")
        self.ask("prefork", b"who\n")
        self.assertNotIn(runner, self.daemons("create_server").values())
