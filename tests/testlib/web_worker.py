# SPDX-License-Identifier: Apache-2.0
"""A broker with one service whose worker speaks HTTP/1.1."""

import json

import broker as testlib


class WebWorker:
    """`ktls` is the service's."""

    def serve(self, command, read_only):
        port = testlib.free_port()
        broker = testlib.Broker("")
        self.certificate = testlib.Certificate(broker.directory)
        broker.write_config(
            f'[certificate.c]\nchain = "{self.certificate.chain}"\nkey = "{self.certificate.key}"\n'
            f'[service.web]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\nalpn = ["http/1.1"]\nktls = "{self.ktls}"\n'
            f"[service.web.worker]\ncommand = {json.dumps(command)}\nuser = \"www-data\"\n"
            f"read_only = {json.dumps(read_only)}\n")
        self.broker = self.enterContext(broker)
        self.url = f"https://localhost:{port}"
