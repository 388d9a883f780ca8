# SPDX-License-Identifier: Apache-2.0
"""The examples that run programs by `exec`, with their own configurations: the test only replaces addresses, certificates and
paths."""

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import unittest

import broker as testlib

EXAMPLES = os.path.join(testlib.SOURCE, "examples")


class Examples(unittest.TestCase):
    def setUp(self):
        self.home = self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-examples-"))
        os.chmod(self.home, 0o755)
        self.certificate = testlib.Certificate(self.home)
        self.port = testlib.free_port()

    def start(self, name, **replaced):
        with open(os.path.join(EXAMPLES, name, "broker.toml"), encoding="utf-8") as file:
            config = file.read()
        config = re.sub(r"listen = .*", f'listen = ["127.0.0.1:{self.port}"]', config)
        config = config.replace("/etc/ssl/example.pem", self.certificate.chain)
        config = config.replace("/etc/ssl/private/example.key", self.certificate.key)
        if testlib.sanitized():  # AddressSanitizer maps more than any such limit
            config = re.sub(r'(, )?memory = "\w+",? ?', "", config)
        for old, new in replaced.values():
            self.assertIn(old, config)
            config = config.replace(old, new)
        return self.enterContext(testlib.Broker(config))

    def run_client(self, *command, **options):
        return subprocess.run(command, capture_output=True, timeout=100 * testlib.PATIENCE, check=False, **options)

    def s_client(self, text):
        return self.run_client("openssl", "s_client", "-quiet", "-CAfile", self.certificate.chain, "-connect",
                               f"localhost:{self.port}", "-servername", "localhost", input=text)

    def curl(self, path, *arguments):
        return self.run_client("curl", "-sS", "--cacert", self.certificate.chain, *arguments,
                               f"https://localhost:{self.port}{path}")

    def test_bc(self):
        self.start("bc")
        done = self.s_client(b"2^100\nquit\n")
        self.assertEqual((done.stdout, done.returncode), (b"1267650600228229401496703205376\n", 0))

    def test_attached_worker(self):
        """Clients come first, then the worker; then the broker is killed and started again."""
        broker = self.start("attached-worker")
        www = pwd.getpwnam("www-data")
        script = shutil.copy(os.path.join(EXAMPLES, "attached-worker", "attached_worker.py"), self.home)
        library = os.path.join(self.home, "libtlsbroker.so.0")
        shutil.copy(testlib.program("client-lib/libtlsbroker.so.0"), library)
        client = testlib.tls_connect(self.port, testlib.tls_context(self.certificate))
        environment = dict(os.environ, LD_LIBRARY_PATH=self.home, **testlib.sanitizer_environment())
        worker = subprocess.Popen(["/usr/bin/python3", script, os.path.join(broker.directory, "run", "echo.sock")],
                                  user=www.pw_uid, group=www.pw_gid, extra_groups=[], env=environment)
        self.addCleanup(worker.wait)
        self.addCleanup(worker.kill)
        for _ in range(3):
            with client:
                self.assertRegex(client.recv(100), rb"^echo (relay|direct)\n$")
                client.sendall(b"once more")
                self.assertEqual(client.recv(100), b"once more")
            broker.restart_after_kill()
            client = testlib.tls_connect(self.port, testlib.tls_context(self.certificate))
        client.close()
        self.assertIsNone(worker.poll())

    def test_git(self):
        project = os.path.join(self.home, "srv", "project.git")
        work = os.path.join(self.home, "work")
        # gnutls-cli writes byte by byte; buffered_stdout.c changes that. A library that is built with sanitizers cannot be loaded
        # into other people's programs.
        buffered = {} if testlib.sanitized() else {"LD_PRELOAD": testlib.program("tests/interop/libbuffered-stdout.so")}
        environment = dict(os.environ, **buffered, GIT_CONFIG_GLOBAL="/dev/null", GIT_CA_FILE=self.certificate.chain,
                           HOME=self.home, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a",
                           GIT_COMMITTER_EMAIL="a@b")

        def git(*arguments):
            done = self.run_client("git", *arguments, env=environment)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        git("init", "-q", work)
        with open(os.path.join(work, "data"), "wb") as file:
            file.write(os.urandom(4 << 20))
        git("-C", work, "add", "data")
        git("-C", work, "commit", "-qm", "one")
        git("clone", "-q", "--bare", work, project)
        user = pwd.getpwnam("www-data")
        for folder, _, files in os.walk(os.path.dirname(project)):
            for name in [".", *files]:
                os.chown(os.path.join(folder, name), user.pw_uid, user.pw_gid)
        self.start("git", base=("/srv/git", os.path.dirname(project)), user=('user = "git"', 'user = "www-data"'))
        clone = os.path.join(self.home, "clone")
        git("-c", f"core.gitProxy={os.path.join(EXAMPLES, 'git', 'clone')}", "clone", "-q",
            f"git://localhost:{self.port}/project.git", clone)
        self.assertEqual(git("-C", clone, "rev-parse", "HEAD"), git("-C", work, "rev-parse", "HEAD"))
        git("-C", clone, "fsck", "--strict")

    def test_shell_cgi(self):
        handler = shutil.copy(os.path.join(EXAMPLES, "shell-cgi", "handler.sh"), self.home)
        self.start("shell-cgi", handler=("/usr/libexec/tlsbroker/examples/handler.sh", handler))
        done = self.curl("/")
        self.assertRegex(done.stdout, rb"^Hello 127\.0\.0\.1, by TLSv1\.3 with TLS_\w+\.\n$")
        data = os.urandom(300000)
        done = self.run_client("curl", "-sS", "--cacert", self.certificate.chain, "--data-binary", "@-",
                               f"https://localhost:{self.port}/sum", input=data)
        self.assertEqual(done.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest(), done.stderr)
        self.assertEqual(self.curl("/nothing", "-o", "/dev/null", "-w", "%{http_code}").stdout, b"404")
        self.assertNotEqual(self.curl("/fail").returncode, 0)


if __name__ == "__main__":
    unittest.main()
