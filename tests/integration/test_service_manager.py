# SPDX-License-Identifier: Apache-2.0
"""What systemd does with the broker: it passes sockets by name, watches the watchdog and provides credentials."""

import os
import shutil
import signal
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


class Credentials(unittest.TestCase):
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
