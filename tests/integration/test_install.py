# SPDX-License-Identifier: Apache-2.0
"""`meson install`: it brings everything that a package has, and leaves the administrator's configuration as it is."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import broker as testlib

FILES = """
bin/tlsbroker
etc/tlsbroker/broker.toml
include/tlsbroker/tlsbroker.h
lib/systemd/system/tlsbroker-attached.service
lib/systemd/system/tlsbroker-loopback.socket
lib/systemd/system/tlsbroker-loopback@.service
lib/systemd/system/tlsbroker.service
lib/systemd/system/tlsbroker.socket
lib/sysusers.d/tlsbroker.conf
lib/tmpfiles.d/tlsbroker.conf
libexec/tlsbroker/tlsbroker-keyholder
libexec/tlsbroker/tlsbroker-loopback
sbin/tlsbrokerd
share/bash-completion/completions/tlsbroker
share/doc/tlsbroker/README.md
share/doc/tlsbroker/broker/NEWS.md
share/doc/tlsbroker/examples/systemd/read-write.conf
share/doc/tlsbroker/protocol/PROTOCOL.md
share/man/man3/tlsbroker.3
share/man/man5/tlsbroker.toml.5
share/man/man8/tlsbrokerd.8
share/zsh/site-functions/_tlsbroker
""".split()


@unittest.skipUnless(shutil.which("meson"), "no meson")
class Install(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="tlsbroker-install-")
        self.addCleanup(shutil.rmtree, self.root)
        introspection = subprocess.run(["meson", "introspect", "--buildoptions", testlib.BUILD], capture_output=True, text=True,
                                       timeout=60 * testlib.PATIENCE, check=True).stdout
        self.prefix = re.search(r'"name": "prefix", "value": "([^"]*)"', introspection)[1]

    def install(self):
        subprocess.run(["meson", "install", "--no-rebuild", "--quiet", "-C", testlib.BUILD, "--destdir", self.root],
                       capture_output=True, text=True, timeout=120 * testlib.PATIENCE, check=True)

    def path(self, name):
        return self.root + os.path.join(self.prefix, name)

    def test_all_of_it(self):
        self.install()
        for name in FILES:
            self.assertTrue(os.path.isfile(self.path(name)), name)
        self.assertTrue(os.path.isdir(self.path("etc/tlsbroker/conf.d")))

    def test_units_name_what_was_installed(self):
        self.install()
        for unit in ("tlsbroker.service", "tlsbroker-attached.service", "tlsbroker-loopback@.service"):
            with open(self.path(f"lib/systemd/system/{unit}"), encoding="utf-8") as file:
                paths = re.findall(r"^Exec\w+=(\S+)(?: .*--config (\S+))?", file.read(), re.M)
            self.assertTrue(paths)
            for path in filter(None, sum(paths, ())):
                self.assertTrue(os.path.exists(self.root + path), path)

    def test_the_configuration_is_good_and_stays(self):
        self.install()
        config = self.path("etc/tlsbroker/broker.toml")
        # The machine of the tests may have no user tlsbroker.
        with open(config, encoding="utf-8") as file, open(self.root + "/checked.toml", "w", encoding="utf-8") as checked:
            checked.write(file.read().replace('# user = "tlsbroker"', 'user = "nobody"'))
        done = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--config", checked.name, "--check"],
                              capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("there is no service, nothing is served", done.stderr)
        with open(config, "w", encoding="utf-8") as file:
            file.write("# mine\n")
        self.install()
        with open(config, encoding="utf-8") as file:
            self.assertEqual(file.read(), "# mine\n")


if __name__ == "__main__":
    unittest.main()
