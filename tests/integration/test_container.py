# SPDX-License-Identifier: Apache-2.0
"""What a broker in a container does without: it starts and serves, and says once for each kind of process what it is confined by."""

import os
import re
import shutil
import sys
import tempfile
import unittest

import broker as testlib
import memory_client

LAUNCHER = f"{testlib.SOURCE}/tests/testlib/in_container.py"
CONFIG = """
[broker]
runtime_dir = "{{runtime_dir}}"
{user}
[certificate.c]
chain = "{chain}"
key = "{key}"
[service.cat]
listen = ["127.0.0.1:{port}"]
certificates = ["c"]
ktls = "never"
handshakers = {{ min = 2, max = 2 }}
[service.cat.worker]
exec = ["/bin/cat"]
{worker}
"""


@unittest.skipUnless(os.geteuid() == 0, "needs root to make what looks like a container")
class Container(unittest.TestCase):
    def serve(self, *options, user=None):
        """Serves a connection; returns {role: what its confinement is without}."""
        directory = tempfile.mkdtemp(prefix="tlsbroker-container-")
        self.addCleanup(shutil.rmtree, directory)
        os.chmod(directory, 0o755)
        self.certificate = testlib.Certificate(directory)
        options = [option.replace("{dir}", directory) for option in options]
        if user is not None:
            os.chown(self.certificate.key, user, user)
            os.chown(directory, user, user)
            options.append(f"user={user}")
        port = testlib.free_port()
        config = CONFIG.format(chain=self.certificate.chain, key=self.certificate.key, port=port,
                               user="" if user else 'user = "nobody"', worker="" if user else 'user = "www-data"')
        with testlib.Broker(config, directory=directory, launcher=[sys.executable, LAUNCHER, *options, "--"]) as self.broker:
            self.ports = {"cat": port}
            with memory_client.Client(self, None, "cat") as client:
                self.assertEqual(client.exchange(b"hello"), b"hello")
            for role in ("keyholder", "handshaker", "porter", "logger", "worker"):
                self.broker.wait_for_log(rf"^{role}\S*: .* is confined as far as this machine allows")
            without = {}
            for line in list(self.broker.log):
                if match := re.match(r"(\w+)\S*: .* is confined as far as this machine allows, without: (.*)", line):
                    without.setdefault(match[1], set()).add(match[2])
        print(f"\n{' '.join(options) or 'as root'}:", *(f"  {role}: {parts}" for role, parts in sorted(without.items())), sep="\n")
        return without

    def context(self, version=None):
        return testlib.tls_context(self.certificate, version)

    def test_as_root(self):
        without = self.serve()
        self.assertIn("an empty root and own namespaces (no CAP_SYS_ADMIN, or unshare(2) is refused)", without["keyholder"])
        self.assertIn("namespaces and a /tmp of its own (no CAP_SYS_ADMIN, or unshare(2) is refused)", str(without))

    def test_as_root_with_all_capabilities(self):
        self.assertIn("unshare(2) is refused", str(self.serve("capable")["keyholder"]))

    def test_as_a_user(self):
        self.assertIn("a user of its own (not root)", str(self.serve(user=65534)["keyholder"]))

    def test_with_a_root_that_cannot_be_written_and_no_proc(self):
        self.serve("read-only={dir}")

    def test_in_a_chroot_without_proc(self):
        with tempfile.TemporaryDirectory() as root:
            os.chmod(root, 0o755)
            without = self.serve("chroot=" + root)
        self.assertIn("an empty root and own mounts (the root directory is no mount point)", without["keyholder"])


if __name__ == "__main__":
    unittest.main()
