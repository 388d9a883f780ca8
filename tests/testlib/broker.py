# SPDX-License-Identifier: Apache-2.0
"""Runs a broker for a test, and the certificates and TLS clients that a test needs.

    with Broker(config) as broker:      # config: TOML text, see Broker
        ...
        broker.wait_for_log(r"connection .* mode=relay")

Every wait has a limit, and whatever happens in the test, nothing of the broker is left behind. Uses only Python's standard
library.
"""

import contextlib
import functools
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TLSBROKER_BUILD", os.path.join(SOURCE, "build"))
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error: ")

ROLES = {
    "tlsbrokerd": "supervisor",
    "tlsbroker-keyholder": "keyholder",
    "tlsbroker-handshaker": "handshaker",
    "tlsbroker-porter": "porter",
    "tlsbroker-logger": "logger",
}


def expects(what):
    """True if this machine must be able to do `what` ("ktls", "rekey"): then no skip is allowed."""
    return what in os.environ.get("TLSBROKER_EXPECT", "").split(",")


def program(name):
    """The path of a program of the build."""
    return os.path.join(BUILD, name)


@functools.cache
def sanitized():
    """Whether the build has AddressSanitizer, which changes how much memory and time everything takes."""
    if not os.path.exists(program("broker/supervisor/tlsbrokerd")):
        return False  # nothing is built yet
    with open(program("broker/supervisor/tlsbrokerd"), "rb") as file:
        return b"__asan_init" in file.read()


# Under software emulation everything takes many times longer, and with sanitizers a few times longer.
GUEST = bool(os.environ.get("TLSBROKER_GUEST"))
PATIENCE = 4 if GUEST else 3 if sanitized() else 1


def sanitizer_environment():
    """The environment for a foreign program that loads a library of the build."""
    if not sanitized():
        return {}
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


# Ports below those that the kernel gives to clients (ip_local_port_range), so that no client takes one meanwhile. No port is
# given twice, not even to another job of run_suite.py ("NUMBER/ALL").
job, jobs = map(int, os.environ.get("TLSBROKER_TEST_JOB", "0/1").split("/"))
ports = iter(random.sample(range(10000 + job, 32768, jobs), 20000 // jobs))


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError("no free port")


def wait_until(condition, what, timeout=10):
    """Polls a condition that no event announces; returns its first true value."""
    end = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"after {timeout * PATIENCE} s: no {what}")
        time.sleep(0.02)


def both_ways(tls, data, size=None):
    """Writes `data` and reads `size` bytes, or to the end, in turns, since an SSL object is for one thread. Returns what was
    read."""
    tls.setblocking(False)
    not_now = ssl.SSLWantReadError, ssl.SSLWantWriteError
    received, sent, ended = bytearray(), 0, False
    while sent < len(data) or not ended:
        ready = select.select([] if ended else [tls], [tls] if sent < len(data) else [], [], 30 * PATIENCE)
        if not any(ready):
            raise TimeoutError(f"sent {sent}, received {len(received)}")
        with contextlib.suppress(*not_now):
            while not ended:
                piece = tls.recv(1 << 16)
                received += piece
                ended = not piece or len(received) == size
        with contextlib.suppress(*not_now):
            while sent < len(data):
                sent += tls.send(data[sent:sent + (1 << 16)])
    tls.setblocking(True)
    return received


def cpu_seconds(pid):
    """The CPU time that the process has used, in user mode and in the kernel."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Certificate:
    """A self-signed certificate for localhost, 127.0.0.1, ::1 and `names`; kinds as below."""

    KEYS = {
        "ec256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "ec384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        "rsa": ["-newkey", "rsa:2048"],
        "rsa4096": ["-newkey", "rsa:4096"],
        "ed25519": ["-newkey", "ed25519"],
    }

    def __init__(self, directory, kind="ec256", name="localhost", names=()):
        self.kind, self.name = kind, name
        self.id = re.sub(r"[^\w-]", "_", kind if name == "localhost" else f"{name}-{kind}")
        stem = os.path.join(directory, f"{name}-{kind}")
        self.chain, self.key = stem + ".pem", stem + ".key"
        alternatives = ["DNS:localhost", "IP:127.0.0.1", "IP:::1"] if name == "localhost" else []
        alternatives += [f"DNS:{n}" for n in ([name] if name != "localhost" else []) + list(names)]
        subprocess.run(
            ["openssl", "req", "-x509", *self.KEYS[kind], "-nodes", "-days", "30", "-subj",
             f"/CN={name}", "-addext", "subjectAltName=" + ",".join(alternatives),
             "-keyout", self.key, "-out", self.chain],
            check=True, capture_output=True, timeout=60 * PATIENCE)


class Broker:
    """A running tlsbrokerd.

    `config` is TOML; {dir} in it is replaced by a fresh directory that everybody may read, and {runtime_dir} by one below it. A
    [broker] table is put in front if there is none. With `user`, a uid, root starts the broker as that user, who then owns the
    directory; the caller has to make key files readable for that user. `launcher` is a command that execs the rest of its
    arguments. With `stderr`, a descriptor or file, the broker's log goes there, and not into `log`.
    """

    def __init__(self, config, directory=None, build=BUILD, expect_ready=True, user=None,
                 launcher=(), stderr=None):
        self.directory = directory or tempfile.mkdtemp(prefix="tlsbroker-test-")
        self._own_directory = directory is None
        os.chmod(self.directory, 0o755)
        self.build = build
        self._identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        if user is not None:
            os.chown(self.directory, user, user)
        self.config_file = os.path.join(self.directory, "broker.toml")
        self.write_config(config)
        self.log = []
        self._changed = threading.Condition()
        self._expect_ready = expect_ready
        self._launcher = list(launcher)
        self._stderr = stderr
        self.environment = {}
        self.process = None

    def write_config(self, config):
        if "[broker]" not in config:
            config = '[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n' + config
        config = config.replace("{dir}", self.directory)
        config = config.replace("{runtime_dir}", os.path.join(self.directory, "run"))
        with open(self.config_file, "w") as file:
            file.write(config)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop(kill=True)
            raise
        return self

    def __exit__(self, *unused):
        self.stop(kill=True)
        return False

    def start(self):
        notify_path = os.path.join(self.directory, "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(notify_path)
        os.chmod(notify_path, 0o666)
        self.process = subprocess.Popen(
            [*self._launcher, os.path.join(self.build, "broker/supervisor/tlsbrokerd"), "--config",
             self.config_file],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if self._stderr is None else self._stderr,
            env=dict(os.environ, NOTIFY_SOCKET=notify_path, **self.environment), start_new_session=True,
            **self._identity)
        self._reader = threading.Thread(target=self._read_log if self.process.stderr else lambda: None, daemon=True)
        self._reader.start()
        if self._expect_ready:
            self.wait_ready()

    def wait_ready(self, timeout=20):
        self._notify.settimeout(0.1)
        end = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < end:
            try:
                if b"READY=1" in self._notify.recv(4096):
                    # What the broker has said until then still has to pass the logger.
                    if self.process.stderr and self._says_so():
                        self.wait_for_log("^tlsbrokerd: in force ")
                    return
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        raise AssertionError("the broker did not become ready:\n" + self.log_text())

    def _says_so(self):
        """Whether the broker logs this line: not if log_level is "warning" or "error"."""
        with open(self.config_file, encoding="utf-8") as file:
            return not re.search(r'^log_level = "(warning|error)"', file.read(), re.M)

    def notifications(self, count, timeout=20):
        """The next states of which the broker tells the service manager, after READY=1."""
        self._notify.settimeout(timeout * PATIENCE)
        return [self._notify.recv(4096).decode() for _ in range(count)]

    def _read_log(self):
        for line in self.process.stderr:
            with self._changed:
                self.log.append(re.sub(r"^<\d>", "", line.decode("utf-8", "replace").rstrip("\n")))
                self._changed.notify_all()

    def log_text(self):
        with self._changed:
            return "\n".join(self.log)

    def wait_for_log(self, pattern, timeout=10, start=0):
        """The match in the first line, from line `start` on, in which the pattern is found."""
        end = time.monotonic() + timeout * PATIENCE
        with self._changed:
            while True:
                for line in self.log[start:]:
                    if match := re.search(pattern, line):
                        return match
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no log line with {pattern!r} in:\n" + "\n".join(self.log))
                self._changed.wait(left)

    def processes(self):
        """The broker's processes as {role: [pid, ...]}; all other children of the supervisor are workers."""
        end = time.monotonic() + 5 * PATIENCE
        while True:
            found = {}
            for pid in children(self.process.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        comm = file.read().strip()
                except (FileNotFoundError, ProcessLookupError):
                    continue  # the process has just ended, maybe between open and read
                role = next((r for n, r in ROLES.items() if n[:15] == comm), "worker")
                found.setdefault(role, []).append(pid)
            # A child with the supervisor's name is about to execute another program.
            if not found.pop("supervisor", None) or time.monotonic() > end:
                return {"supervisor": [self.process.pid], **found}
            time.sleep(0.01)

    def status(self):
        """The output of `tlsbroker status --json`."""
        done = subprocess.run([program("client-lib/tools/tlsbroker"), "status", "--json", "--runtime-dir",
                               os.path.join(self.directory, "run")], capture_output=True, check=True,
                              timeout=20 * PATIENCE)
        return json.loads(done.stdout)

    def pid_of(self, role, service):
        """The pid of a process of a service that serves; `role` is "keyholder" or "handshaker[0]", for example."""
        (pid,) = [process["pid"] for process in self.status()["processes"]
                  if (process["role"], process["service"], process["state"]) == (role, service, "serving")]
        return pid

    def restart_after_kill(self, away=0):
        """Kills the broker with SIGKILL, and after `away` seconds starts a new one with the same configuration; the log begins
        anew."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self._notify.close()
        self.process.stderr.close()
        os.unlink(os.path.join(self.directory, "notify"))
        self.log.clear()
        time.sleep(away)
        self.start()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, kill=False, timeout=20):
        """Sends SIGTERM and returns the exit status; with `kill` the broker is killed if it does not end. Cleans up."""
        if self.process is None:
            return None
        left = children(self.process.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait((3 if kill else timeout) * PATIENCE)
        except subprocess.TimeoutExpired:
            if not kill:
                raise
            self.process.kill()
            status = self.process.wait(10)
            for pid in left:
                kill_process(pid)
        self._reader.join(5)
        self._notify.close()
        if self.process.stderr:
            self.process.stderr.close()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.process = None
        if reports := [line for line in self.log if SANITIZER.search(line)]:
            raise AssertionError("a sanitizer complained:\n" + "\n".join(reports) + "\n" + self.log_text())
        return status


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):  # the process may end between open and read
        return []


def kill_process(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ending(receive):
    """Reads the rest of a stream by `receive` and says how it ends: "end", an authenticated one, or "cut", also by a fatal
    alert."""
    try:
        while receive(65536):
            pass
    except ssl.SSLZeroReturnError:
        pass
    except (ConnectionResetError, BrokenPipeError):
        return "cut"
    except ssl.SSLError as error:  # SSLEOFError or, depending on Python's version, this
        if "EOF" not in str(error).upper() and "ALERT" not in str(error).upper():
            raise
        return "cut"
    return "end"


def tls_context(certificate, version=None, ciphers=None, alpn=()):
    """A client's context that trusts only `certificate`."""
    context = ssl.create_default_context(cafile=certificate.chain)
    # By default Python has OpenSSL 3 take a cut for an end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def tls_connect(port, context, host="127.0.0.1", server_name="localhost", timeout=10, session=None):
    raw = socket.create_connection((host, port), timeout * PATIENCE)
    try:
        return context.wrap_socket(raw, server_hostname=server_name, session=session, suppress_ragged_eofs=False)
    except BaseException:
        raw.close()
        raise
