# SPDX-License-Identifier: Apache-2.0
"""What systemd does with the broker: it passes sockets by name, watches the watchdog and provides credentials."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import broker as testlib
import echo_service


class Watchdog(unittest.TestCase):
    def test_is_fed_twice_in_its_time(self):
        service = echo_service.EchoService({"echo": "never"})
        service.environment = {"WATCHDOG_USEC": "400000"}
        with service:
            seen = [message for message in service.notifications(6) if message == "WATCHDOG=1"]
            self.assertGreaterEqual(len(seen), 5)
            with open(f"/proc/{service.processes()['worker'][0]}/environ", "rb") as file:
                self.assertNotIn(b"WATCHDOG", file.read())

    def test_is_not_fed_if_it_is_another_process_s(self):
        service = echo_service.EchoService({"echo": "never"})
        service.environment = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
        with service:
            self.assertTrue(service.ask())
            with self.assertRaises(TimeoutError):
                service.notifications(1, timeout=0.5)


class Notifications(unittest.TestCase):
    def test_a_stop_says_how_long_it_may_take(self):
        """drain_timeout and half a minute, in microseconds: the service manager waits at least as long."""
        for drain, expected in ((None, 60_000_000), ("10m", 630_000_000)):
            lines = echo_service.BROKER_LINES + (f'\ndrain_timeout = "{drain}"' if drain else "")
            with self.subTest(drain), echo_service.EchoService({"echo": "never"}, broker_lines=lines) as service:
                service.signal(signal.SIGTERM)
                (state,) = service.notifications(1)
                self.assertEqual(state, f"STOPPING=1\nEXTEND_TIMEOUT_USEC={expected}")

    def test_a_configuration_without_services_is_served(self):
        """As it is after an installation. A reload adds the first service."""
        service = echo_service.EchoService({"echo": "never"})
        text = service.text()
        service.write_config('[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n')
        with service:
            service.wait_for_log(r"there is no service, nothing is served; add a section \[service.NAME\]")
            self.assertEqual(service.status()["services"], [])
            service.write_config('[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n')
            service.signal(signal.SIGHUP)
            states = service.notifications(2)
            self.assertEqual(states[1], "READY=1\nSTATUS=serving nothing: the configuration has no service")
            start = len(service.log)
            service.write_config(text)
            service.signal(signal.SIGHUP)
            service.wait_for_log("in force .*services=1", start=start)
            self.assertEqual(service.notifications(2)[1], "READY=1\nSTATUS=serving")
            self.assertTrue(service.ask())
            self.assertEqual(service.stop(), 0)


class Credentials(unittest.TestCase):
    def test_a_renewed_key_whose_credential_is_the_old_copy(self):
        """The reload fails, and says why."""
        with tempfile.TemporaryDirectory() as credentials:
            broker = testlib.Broker("")
            certificate = testlib.Certificate(broker.directory)
            shutil.move(certificate.key, os.path.join(credentials, "web.key"))
            port = testlib.free_port()
            broker.write_config(f'[certificate.c]\nchain = "{certificate.chain}"\nkey = "cred:web.key"\n'
                                f'[service.web]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\n')
            broker.environment = {"CREDENTIALS_DIRECTORY": credentials}
            with broker:
                renewed = testlib.Certificate(broker.directory)
                self.assertEqual(renewed.chain, certificate.chain)
                broker.signal(signal.SIGHUP)
                broker.wait_for_log("does not match .*; a credential is a copy that the service manager made when")
                broker.wait_for_log("reload failed; the previous configuration stays in force")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_key_that_the_unit_could_not_read_is_said_by_the_check(self):
        broker = testlib.Broker("")
        self.addCleanup(shutil.rmtree, broker.directory)
        certificate = testlib.Certificate(broker.directory)
        broker.write_config(f'[certificate.c]\nchain = "{certificate.chain}"\nkey = "{certificate.key}"\n'
                            '[service.web]\nlisten = ["127.0.0.1:1"]\ncertificates = ["c"]\n')
        for owner, warns in (("root", False), ("nobody", True)):
            shutil.chown(certificate.key, owner)
            os.chmod(certificate.key, 0o600)
            done = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--config", broker.config_file, "--check"],
                                  capture_output=True, text=True, timeout=60 * testlib.PATIENCE, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("but not by a broker under tlsbroker.service" in done.stderr, warns, done.stderr)

    def test_key_and_chain(self):
        with tempfile.TemporaryDirectory() as credentials:
            broker = testlib.Broker("")
            certificate = testlib.Certificate(broker.directory)
            shutil.move(certificate.key, os.path.join(credentials, "web.key"))
            shutil.copy(certificate.chain, os.path.join(credentials, "web.pem"))
            port = testlib.free_port()
            broker.write_config(f'[certificate.c]\nchain = "cred:web.pem"\nkey = "cred:web.key"\n'
                                f'[service.web]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\n')
            broker.environment = {"CREDENTIALS_DIRECTORY": credentials}
            with broker:
                testlib.tls_connect(port, testlib.tls_context(certificate)).close()

    def test_key_by_uri(self):
        """The key is read by OSSL_STORE, which would also read keys of tokens; Debian 12 has no provider for PKCS #11."""
        broker = testlib.Broker("")
        certificate = testlib.Certificate(broker.directory)
        port = testlib.free_port()
        broker.write_config(f'[certificate.c]\nchain = "{certificate.chain}"\nkey = "file:{certificate.key}"\n'
                            f'[service.web]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\n')
        with broker:
            testlib.tls_connect(port, testlib.tls_context(certificate)).close()


@unittest.skipUnless(shutil.which("systemd-socket-activate"), "no systemd-socket-activate")
class SocketActivation(unittest.TestCase):
    def test_named_listeners(self):
        """systemd-socket-activate starts the broker with the first connection, which is served."""
        service = echo_service.EchoService({"echo": "never"})
        port = service.ports["echo"]
        service.write_config(service.text().replace(f'"127.0.0.1:{port}"', '"systemd:tls"'))
        service.launch_by(["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=tls",
                           *[f"-E{name}" for name in ("PATH", "NOTIFY_SOCKET", "ASAN_OPTIONS")]])
        service._expect_ready = False
        with service:
            testlib.wait_until(self.listens(port), "a listener")
            self.assertNotIn("tlsbrokerd: ", service.log_text(), "nothing runs before the first connection")
            self.assertTrue(service.ask(timeout=30))
            service.wait_for_log("listen=systemd:tls")

    @staticmethod
    def listens(port):
        wanted = f"0100007F:{port:04X} 00000000:0000 0A"

        def check():
            with open("/proc/net/tcp", encoding="ascii") as file:
                return wanted in file.read()
        return check


# Passes listening sockets by these names, as sd_listen_fds_with_names(3) has it, and executes the broker.
PASSES_SOCKETS = """import os, socket, sys
names = sys.argv[1].split(":")
for number, name in enumerate(names, 3):
    listener = socket.create_server(("127.0.0.1", 0))
    os.dup2(listener.fileno(), number + 100)
for number, name in enumerate(names, 3):
    os.dup2(number + 100, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])"""


class UnclaimedSockets(unittest.TestCase):
    WARNING = 'no service uses the socket "{0}" that was passed to the broker.*write listen = \\["systemd:{0}"\\]'

    def test_are_named_at_the_start_and_at_each_reload(self):
        service = echo_service.EchoService({"echo": "never"})
        port = service.ports["echo"]
        service.launch_by(["/usr/bin/python3", "-c", PASSES_SOCKETS, "used:left:left"])
        both = f'"127.0.0.1:{port}", "systemd:used"'
        service.text = lambda text=service.text: text().replace(f'"127.0.0.1:{port}"', both)
        service.write_config(service.text())
        with service:
            service.wait_for_log(self.WARNING.format("left"))
            self.assertEqual(service.log_text().count("no service uses the socket"), 1)
            start = len(service.log)
            both = f'"127.0.0.1:{port}"'
            service.write_config(service.text())
            service.signal(signal.SIGHUP)
            service.wait_for_log(self.WARNING.format("used"), start=start)
            service.wait_for_log(self.WARNING.format("left"), start=start)
            service.wait_for_log("in force", start=start)
            self.assertTrue(service.ask())


if __name__ == "__main__":
    unittest.main()
