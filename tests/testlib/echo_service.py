"""A broker whose services are echo workers, and what the tests of them share. See echo_worker.py."""

import json
import os
import shutil
import socket
import tempfile
import unittest

import broker as testlib

HERE = os.path.dirname(os.path.abspath(__file__))
BROKER = """
[broker]
runtime_dir = "{runtime_dir}"
user = "nobody"
handshakers = HANDSHAKERS
max_handshakes_per_source = 1000
"""
CERTIFICATE = """
[certificate.{0.kind}]
chain = "{0.chain}"
key = "{0.key}"
"""
SERVICE = """
[service.{name}]
listen = ["127.0.0.1:{port}"]
certificates = [{certificates}]
ktls = "{ktls}"
alpn = ["http/1.1"]
[service.{name}.worker]
command = ["{worker}"]
user = "www-data"
"""


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
    """For setUp: skips where the kernel has no TLS, unless it must have it; then the test fails."""
    if os.geteuid() != 0:
        raise unittest.SkipTest("needs root")
    if not kernel_has_tls() and not testlib.expects("ktls"):
        raise unittest.SkipTest("this kernel has no TLS (kTLS)")


def tls_stat():
    with open("/proc/net/tls_stat", encoding="ascii") as file:
        return {name: int(value) for name, value in map(str.split, file)}


class Trusted:
    """What tls_context() takes for a certificate: a file to trust."""

    def __init__(self, chain):
        self.chain = chain


class EchoService(testlib.Broker):
    """`services` maps names to ktls modes; `ports` says where they listen."""

    def __init__(self, services=None, kinds=("ec256",), handshakers=2, **options):
        services = services or {"echo": "prefer"}
        self.home = tempfile.mkdtemp(prefix="tlsbroker-echo-")
        os.chmod(self.home, 0o755)
        worker = shutil.copy(os.path.join(HERE, "echo_worker.py"), self.home)
        os.chmod(worker, 0o755)
        self.certificates = [testlib.Certificate(self.home, kind) for kind in kinds]
        self.trusted = os.path.join(self.home, "trusted.pem")
        with open(self.trusted, "w", encoding="ascii") as trusted:
            for certificate in self.certificates:
                with open(certificate.chain, encoding="ascii") as chain:
                    trusted.write(chain.read())
        self.ports = {name: testlib.free_port() for name in services}
        names = ", ".join(f'"{kind}"' for kind in kinds)
        config = BROKER.replace("HANDSHAKERS", str(handshakers))
        config += "".join(CERTIFICATE.format(certificate) for certificate in self.certificates)
        for name, ktls in services.items():
            config += SERVICE.format(name=name, port=self.ports[name], certificates=names,
                                     ktls=ktls, worker=worker)
        super().__init__(config, **options)

    def stop(self, *arguments, **options):
        try:
            return super().stop(*arguments, **options)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def launch_by(self, command):
        """See Broker's `launcher`; for one that needs a file in `home`. Before the start."""
        self._launcher = command

    def context(self, version=None, ciphers=None):
        return testlib.tls_context(Trusted(self.trusted), version, ciphers)

    def log_fields(self, conn):
        """The log line of the connection with this id, as a dictionary."""
        line = self.wait_for_log(rf"connection conn={conn} .*").group()
        return dict(field.split("=", 1) for field in line.split()[1:])


def who(answer):
    """Description and rest of what followed a WHO."""
    line, _, rest = answer.partition(b"\n")
    return json.loads(line), rest
