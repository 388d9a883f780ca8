# SPDX-License-Identifier: Apache-2.0
"""The competitors: each is something that TLS clients can connect to, with the same plain server behind it."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "testlib"))

import broker as testlib  # noqa: E402
import processes  # noqa: E402

# A proxy has two descriptors for each connection; haproxy does not start if its limit does not allow that many.
resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
CONNECTIONS = min(24000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 2)
CPUS = 2  # processes or threads of each competitor

STUNNEL = """foreground = yes
pid =
debug = 3
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[bench]
accept = 127.0.0.1:{port}
cert = {pem}
{target}
"""
HITCH = """frontend = "[127.0.0.1]:{port}"
backend = "[127.0.0.1]:{behind}"
pem-file = "{pem}"
workers = {cpus}
backlog = 4096
tls-protos = TLSv1.2 TLSv1.3
quiet = on
"""
HAPROXY = """global
  nbthread {cpus}
  maxconn {connections}
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen bench
  bind 127.0.0.1:{port} ssl crt {pem} backlog 4096
  server behind 127.0.0.1:{behind}
"""
NGINX = """load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid {directory}/nginx.pid;
error_log stderr emerg;
worker_processes {cpus};
events {{ worker_connections {connections}; }}
stream {{
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096 reuseport;
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache off;
    tcp_nodelay on;
    proxy_pass 127.0.0.1:{behind};
    proxy_timeout 10m;
  }}
}}
"""
BROKER = """[broker]
runtime_dir = "{{runtime_dir}}"
user = "nobody"
log_level = "warning"
max_relayed = {connections}
max_handshakes = {handshakes}
max_handshakes_per_source = 4096
[certificate.c]
chain = "{chain}"
key = "{key}"
[service.bench]
listen = ["127.0.0.1:{port}"]
certificates = ["c"]
ktls = "{ktls}"
backlog = 1024
max_relayed_per_source = {connections}
{handshakers}
[service.bench.worker]
{kind} = [{command}]
user = "www-data"
{lines}
"""


def program(name):
    return testlib.program(f"tests/bench/{name}")


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Subject:
    """Something that listens on `port`. `roots` are the process trees that do the work of TLS, `behind` those of the
    plain server."""

    plain = False
    tls12 = False

    def __init__(self, name, certificate):
        self.name, self.certificate = name, certificate
        self.port = testlib.free_port()
        self.roots, self.behind = [], []
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        self.directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tlsbroker-bench-"))
        os.chmod(self.directory, 0o755)
        try:
            self.start()
            testlib.wait_until(lambda: listening(self.port), f"{self.name} on its port", 20)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *unused):
        self._stack.close()
        return False

    def spawn(self, *words):
        """Starts a process of this subject; its whole process tree is ended when the subject ends."""
        log = self._stack.enter_context(open(os.path.join(self.directory, f"{os.path.basename(words[0])}.log"), "wb"))
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._stack.callback(self._end, child)
        return child.pid

    @staticmethod
    def _end(child):
        pids = processes.tree(child.pid)
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pid in pids[1:]:
            testlib.kill_process(pid)

    def start_behind(self):
        port = testlib.free_port()
        self.behind = [self.spawn(program("bench-server"), "tcp", str(port))]
        testlib.wait_until(lambda: listening(port), "the plain server on its port")
        return port

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def pem(self):
        text = ""
        for part in (self.certificate.key, self.certificate.chain):
            with open(part, encoding="ascii") as file:
                text += file.read()
        return self.write("both.pem", text)

    def cpu(self):
        return processes.cpu(self.roots + self.behind)


class Plain(Subject):
    """No TLS at all: what everything except TLS costs."""

    plain = True

    def start(self):
        self.roots = [self.spawn(program("bench-server"), "tcp", str(self.port))]


class InProcess(Subject):
    """TLS in the server's own process; `mode` is openssl or ktls."""

    def __init__(self, name, certificate, mode):
        super().__init__(name, certificate)
        self.mode = mode

    def start(self):
        self.roots = [self.spawn(program("bench-tls-server"), self.mode, str(self.port), self.certificate.chain,
                                 self.certificate.key)]


class Proxy(Subject):
    """A program with a configuration file, in front of the plain server."""

    def __init__(self, name, certificate, text, *command):
        super().__init__(name, certificate)
        self.text, self.command = text, command

    def start(self):
        behind = self.start_behind()
        text = self.text.format(
            port=self.port, behind=behind, directory=self.directory, pem=self.pem(), cpus=CPUS, connections=CONNECTIONS,
            chain=self.certificate.chain, key=self.certificate.key, target=f"connect = 127.0.0.1:{behind}")
        self.roots = [self.spawn(*self.command, self.write("configuration", text))]


def as_known(config, build):
    """`config` without the lines that an earlier build's broker does not know."""
    lines = config.split("\n")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        for _ in range(20):
            file.seek(0)
            file.truncate()
            file.write("\n".join(lines).replace("{runtime_dir}", "/run/tlsbroker"))
            file.flush()
            checked = subprocess.run([os.path.join(build, "broker/supervisor/tlsbrokerd"), "--config", file.name, "--check"],
                                     capture_output=True, text=True, check=False)
            if checked.returncode == 0:
                return "\n".join(lines)
            unknown = re.search(rf"{re.escape(file.name)}:(\d+):\d+: unknown key", checked.stderr)
            if not unknown:
                raise RuntimeError(checked.stderr)
            lines[int(unknown[1]) - 1] = ""
    raise RuntimeError(f"{build}: too much is unknown there")


class Broker(Subject):
    """tlsbroker. `kind` and `command` are those of its worker; workers count as `behind`. `build` may be an earlier build."""

    def __init__(self, name, certificate, ktls, kind="command", command=None, lines="", handshakers=None, text=BROKER,
                 build=testlib.BUILD):
        super().__init__(name, certificate)
        self.ktls, self.kind, self.lines, self.handshakers, self.text = ktls, kind, lines, handshakers, text
        self.build = build
        self.command = command or [program("bench-server"), "worker" if kind == "command" else "stdio"]

    def start(self):
        config = self.text.format(
            chain=self.certificate.chain, key=self.certificate.key, port=self.port, ktls=self.ktls, kind=self.kind,
            command=", ".join(f"'''{word}'''" for word in self.command), lines=self.lines,
            handshakers=f"handshakers = {{ min = {self.handshakers}, max = {self.handshakers} }}" if self.handshakers else "",
            connections=24000, handshakes=24000)
        if self.build != testlib.BUILD:
            config = as_known(config, self.build)
        self.broker = self._stack.enter_context(testlib.Broker(config, build=self.build))
        self.roots = [self.broker.process.pid]

    def parts(self):
        """CPU time by role."""
        return {role: processes.cpu(pids) if role == "worker" else sum(map(processes.cpu_of, pids))
                for role, pids in self.broker.processes().items()}

    def tls_processes(self):
        """The broker's processes without the workers."""
        return [pid for role, pids in self.broker.processes().items() if role != "worker" for pid in pids]


class Inetd(Subject):
    """tlswrapper, which serves one connection on its standard input and output; it knows TLS 1.2 only."""

    tls12 = True

    def __init__(self, name, certificate, command):
        super().__init__(name, certificate)
        self.command = command

    def start(self):
        self.roots = [self.spawn(
            "systemd-socket-activate", "--accept", "--inetd", "-l", f"127.0.0.1:{self.port}", "tlswrapper", "-q",
            "-c", "AES_128_GCM_SHA256", "-J", "/var/lib/tlswrapper/empty", "-f", self.pem(), *self.command)]


def proxies(certificate):
    return [
        Proxy("stunnel4", certificate, STUNNEL, "stunnel4"),
        Proxy("hitch", certificate, HITCH, "hitch", "--user=nobody", "--group=nogroup", "--config"),
        Proxy("haproxy", certificate, HAPROXY, "haproxy", "-db", "-q", "-f"),
        Proxy("nginx", certificate, NGINX, "nginx", "-c"),
    ]


def stunnel_exec(certificate, command):
    target = f"exec = {command[0]}\nexecArgs = {' '.join([os.path.basename(command[0]), *command[1:]])}"
    return Proxy("stunnel4", certificate, STUNNEL.replace("{target}", target.replace("{", "{{").replace("}", "}}")),
                 "stunnel4")


class Load:
    """A running bench-load: see programs/load.cc. It is ready when this object exists."""

    def __init__(self, subject, kind, **options):
        words = [program("bench-load"), kind, str(subject.port)]
        words += ["--plain"] if subject.plain else ["--tls12"] if subject.tls12 else []
        for name, value in options.items():
            words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
        self._what = f"{subject.name}: {kind}"
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._child.pid
        try:
            self._expect(self._child.stdout.readline() == "ready\n", "did not get ready")
        except BaseException:
            self.__exit__()
            raise

    def _expect(self, good, what):
        if not good:
            raise RuntimeError(f"{self._what}: the client {what}")

    def go(self):
        """Has bench-load do its work; returns the result as text."""
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        self._expect(line.endswith("\n"), "ended early")
        return line

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self._child.poll() is None:
            self._child.stdin.close()
            try:
                self._child.wait(20)
            except subprocess.TimeoutExpired:
                self._child.send_signal(signal.SIGKILL)
                self._child.wait()
        self._child.stdout.close()
        return False


def settle(subject, pause=0.05):
    """Waits until the subject computes no more for connections that are over; returns its CPU time."""
    before = subject.cpu()
    for _ in range(40):
        time.sleep(pause)
        now = subject.cpu()
        if now - before < 0.0005:
            return now
        before = now
    return before
