# SPDX-License-Identifier: Apache-2.0
"""A broker whose services run a program for each connection, by `exec`."""

import os
import shutil
import tempfile

import broker as testlib
import echo_service
import memory_client

BROKER = """
[broker]
runtime_dir = "{{runtime_dir}}"
user = "nobody"
max_handshakes_per_source = 2000
max_handshakes = 2000
handshake_timeout = "60s"
[certificate.c]
chain = "{chain}"
key = "{key}"
"""
SERVICE = """
[service.{name}]
listen = ["127.0.0.1:{port}"]
certificates = ["c"]
ktls = "{ktls}"
{service_lines}
[service.{name}.worker]
{kind} = [{command}]
user = "www-data"
{lines}
"""


class ExecService(testlib.Broker):
    """`programs` maps the names of services to commands, lists of words; `lines` go into their worker sections, `service_lines`
    into those of the services themselves: for all of them, or a dictionary with lines for some. In a command {home} is a
    directory that everybody may read; its subdirectory `writable` is one that programs may write to. `commands` and `daemons`
    name the services whose program is a worker itself, or listens and accepts."""

    def __init__(self, programs, lines="", service_lines="", ktls="prefer", commands=(), daemons=(), **options):
        self.home = tempfile.mkdtemp(prefix="tlsbroker-exec-")
        os.chmod(self.home, 0o755)
        self.writable = os.path.join(self.home, "writable")
        os.mkdir(self.writable)
        os.chmod(self.writable, 0o777)
        self.certificate = testlib.Certificate(self.home)
        self.ports = {name: testlib.free_port() for name in programs}
        lines_for = echo_service.EchoService.lines_for
        config = BROKER.format(chain=self.certificate.chain, key=self.certificate.key)
        for name, words in programs.items():
            words = [word.replace("{home}", self.home) for word in words]
            kind = "command" if name in commands else "daemon" if name in daemons else "exec"
            config += SERVICE.format(
                name=name, port=self.ports[name], ktls=ktls, kind=kind, service_lines=lines_for(service_lines, name),
                command=", ".join("'''" + word + "'''" for word in words),
                lines=lines_for(lines, name).replace("{home}", self.home))
        self.contexts = {}
        super().__init__(config, **options)

    def stop(self, *arguments, **options):
        try:
            return super().stop(*arguments, **options)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def context(self, version=None):
        if version not in self.contexts:
            self.contexts[version] = testlib.tls_context(self.certificate, version)
        return self.contexts[version]

    def connect(self, service, version=None, **options):
        return testlib.tls_connect(self.ports[service], self.context(version), **options)

    def talk(self, service, sent=b"", version=None):
        """Sends `sent`, ends the sending direction, and reads to the end. Returns the answer; raises an exception unless the
        answer's end is authenticated."""
        with memory_client.Client(self, version, service) as client:
            return client.exchange(sent)
