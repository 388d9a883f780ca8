# SPDX-License-Identifier: Apache-2.0
"""A broker whose services are echo workers, and what their tests share. See echo_worker.py."""

import functools
import json
import os
import py_compile
import shutil
import signal
import socket
import tempfile
import unittest

import broker as testlib

HERE = os.path.dirname(os.path.abspath(__file__))
BROKER = """
[broker]
runtime_dir = "{runtime_dir}"
user = "nobody"
LINES
"""
CERTIFICATE = """
[certificate.{0.id}]
chain = "{0.chain}"
key = "{0.key}"
"""
SERVICE = """
[service.{name}]
listen = [{listen}]
certificates = [{certificates}]
ktls = "{ktls}"
handshakers = {{ min = {handshakers}, max = {handshakers} }}
{lines}
[service.{name}.worker]
command = ["/usr/bin/python3", "-S", "{worker}"{arguments}]
user = "www-data"
read_only = ["{home}"]
{worker_lines}
"""
# A guest on a busy machine is slow.
BROKER_LINES = 'max_handshakes_per_source = 1000\nhandshake_timeout = "60s"'
SERVICE_LINES = 'alpn = ["http/1.1"]'


def kernel_has_tls():
    """Whether the kernel has the TLS upper layer protocol; asking as root loads its module."""
    TCP_ULP = 31
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            try:
                client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            except OSError:
                return False
    return True


def require_ktls():
    """For setUp: skips the test where the kernel has no TLS; fails it where the kernel must have TLS."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")
    if not kernel_has_tls() and not testlib.expects("ktls"):
        raise unittest.SkipTest("this kernel has no TLS (kTLS)")


def tls_stat():
    with open("/proc/net/tls_stat", encoding="ascii") as file:
        return {name: int(value) for name, value in map(str.split, file)}


@functools.cache
def compiled_worker():
    """The path of the compiled worker: Python compiles a program at each start, which takes half a second in a guest, but
    executes a compiled one, too."""
    return py_compile.compile(os.path.join(HERE, "echo_worker.py"), doraise=True)


class Trusted:
    """What tls_context() accepts as a certificate: a file to trust."""

    def __init__(self, chain):
        self.chain = chain


class EchoService(testlib.Broker):
    """`services` maps names to ktls modes; `ports` says where they listen, by default on free ports. The lines of TOML go into
    the sections; `lines` and `worker_lines` are for all services, or a dictionary with lines for some."""

    def __init__(self, services=None, kinds=("ec256",), handshakers=1, certificates=None, lines=SERVICE_LINES,
                 worker_lines="", hosts=("127.0.0.1",), holds=False, broker_lines=BROKER_LINES, ports=None, **options):
        self.home = tempfile.mkdtemp(prefix="tlsbroker-echo-")
        os.chmod(self.home, 0o755)
        self.worker = shutil.copy(compiled_worker(), os.path.join(self.home, "echo_worker.pyc"))
        os.chmod(self.worker, 0o644)
        make = certificates or (lambda home: [testlib.Certificate(home, kind) for kind in kinds])
        self.certificates = make(self.home)
        self.trusted = os.path.join(self.home, "trusted.pem")
        self.services = services or {"echo": "prefer"}
        self.ports = ports or {name: testlib.free_port() for name in self.services}
        self.handshakers, self.hosts, self.holds = handshakers, hosts, holds
        self.lines, self.worker_lines, self.broker_lines = lines, worker_lines, broker_lines
        super().__init__(self.text(), **options)

    def write_config(self, config):
        with open(self.trusted, "w", encoding="ascii") as trusted:
            for certificate in self.certificates:
                with open(certificate.chain, encoding="ascii") as chain:
                    trusted.write(chain.read())
        super().write_config(config)

    def text(self):
        """The configuration by the present values of the attributes: for a reload."""
        config = BROKER.replace("LINES", self.broker_lines)
        config += "".join(CERTIFICATE.format(certificate) for certificate in self.certificates)
        names = ", ".join(f'"{certificate.id}"' for certificate in self.certificates)
        for name, ktls in self.services.items():
            config += SERVICE.format(name=name, port=self.ports[name], certificates=names, ktls=ktls,
                                     worker=self.worker, home=self.home, arguments=', "hold"' if self.holds else "",
                                     listen=", ".join(f'"{host}:{self.ports[name]}"' for host in self.hosts),
                                     handshakers=self.handshakers, lines=self.lines_for(self.lines, name),
                                     worker_lines=self.lines_for(self.worker_lines, name))
        return config

    @staticmethod
    def lines_for(lines, name):
        return lines if isinstance(lines, str) else lines.get(name, "")

    def reload(self, expect="in force"):
        start = len(self.log)
        self.write_config(self.text())
        self.signal(signal.SIGHUP)
        return self.wait_for_log(expect, start=start)

    def worker_exit(self, status):
        """Makes workers end at once with this status; None stops that."""
        path = self.worker + ".exit"
        if status is None:
            os.unlink(path)
            return
        with open(path, "w", encoding="ascii") as file:
            file.write(str(status))

    def connect(self, service="echo", **options):
        options["context"] = options.get("context") or self.context()
        return testlib.tls_connect(self.ports[service], **options)

    def ask(self, command=b"WHO\n", **options):
        """The worker's answer to `command`, one line."""
        with self.connect(**options) as tls:
            tls.sendall(command)
            return tls.makefile("rb").readline()

    def stop(self, *arguments, **options):
        try:
            return super().stop(*arguments, **options)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def launch_by(self, command):
        """Sets Broker's `launcher` before the start, for a command that needs a file in `home`."""
        self._launcher = command

    def context(self, version=None, ciphers=None):
        return testlib.tls_context(Trusted(self.trusted), version, ciphers)

    def log_fields(self, conn):
        """The log line of the connection with this id, as a dictionary."""
        line = self.wait_for_log(rf"connection conn={conn} .*").group()
        return dict(field.split("=", 1) for field in line.split()[1:])


def who(answer):
    """The description and the rest of the bytes of an answer to WHO."""
    line, _, rest = answer.partition(b"\n")
    return json.loads(line), rest
