# SPDX-License-Identifier: Apache-2.0
"""The units: how systemd rates them, and a broker that serves under their restrictions."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

import broker as testlib
import echo_service
import exec_service

UNITS = testlib.program("broker/systemd")
LAUNCHER = os.path.join(testlib.SOURCE, "tests/testlib/under_unit.py")
LOOPBACK_SOCKET = "/run/tlsbroker-loopback.sock"
# Two processes that answer whom they serve; the second one comes from fork(2).
DAEMON = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.fork()
while True:
    connection, address = listener.accept()
    with connection:
        connection.sendall(address[0].encode())
"""


def unit(name):
    return os.path.join(UNITS, name + ".service")


def settings(name):
    """Of [Service]: each with the list of its values."""
    values = {}
    with open(unit(name), encoding="utf-8") as file:
        for line in file:
            key, found, value = line.strip().partition("=")
            if found and not line.startswith("#"):
                values.setdefault(key, []).append(value)
    return values


class Loopbacks:
    """Does what systemd does for tlsbroker-loopback.socket and its service: starts a process for each connection, in a new
    network with a loopback interface that is up."""

    def __init__(self, new_network=True):
        self.command = [testlib.program("broker/loopback/tlsbroker-loopback")]
        if new_network:
            self.command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0"', *self.command]
        self.answered = 0

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(LOOPBACK_SOCKET)
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                subprocess.run(self.command, stdin=connection, check=False, timeout=60 * testlib.PATIENCE,
                               env=dict(os.environ, **testlib.sanitizer_environment()))
            self.answered += 1

    def __exit__(self, *unused):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60 * testlib.PATIENCE)
        os.unlink(LOOPBACK_SOCKET)


@unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
class Units(unittest.TestCase):
    def exposure(self, name):
        shown = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit(name)],
                               capture_output=True, text=True, timeout=60, check=False).stdout
        rating = re.search(r"Overall exposure level for .*: ([\d.]+)", shown)
        print(f"\n  {rating.group()}")
        return float(rating.group(1))

    def test_exposure_with_workers(self):
        self.assertLessEqual(self.exposure("tlsbroker"), 3.0)

    def test_exposure_with_attached_ones_alone(self):
        self.assertLessEqual(self.exposure("tlsbroker-attached"), 2.0)

    def test_exposure_of_the_one_that_gives_networks(self):
        self.assertLessEqual(self.exposure("tlsbroker-loopback@"), 2.0)

    def test_they_are_well_formed(self):
        for name in ("tlsbroker.service", "tlsbroker-attached.service", "tlsbroker.socket", "tlsbroker-loopback.socket",
                     "tlsbroker-loopback@.service"):
            path = os.path.join(testlib.SOURCE if name.endswith("socket") else testlib.BUILD, "broker/systemd", name)
            shown = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path],
                                   capture_output=True, text=True, timeout=60, check=False)
            complaints = [line for line in shown.stderr.splitlines() if name in line and "is not executable" not in line and "not loaded" not in line]
            self.assertEqual(complaints, [])

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_broker_with_workers_serves(self):
        service = echo_service.EchoService({"echo": "prefer"})
        service.launch_by([sys.executable, LAUNCHER, unit("tlsbroker"), service.directory])
        with service:
            self.assertEqual(json.loads(service.ask())["service"], "echo")
            processes = service.processes()
            for role, pids in processes.items():
                for pid in pids:
                    with open(f"/proc/{pid}/status", encoding="ascii") as file:
                        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                    self.assertEqual(status["NoNewPrivs"], "1", role)
                    self.assertGreaterEqual(int(status["Seccomp_filters"]), 2, role)
            service.reload()
            self.assertTrue(service.ask())
            self.assertFalse([line for line in service.log if " is confined as far as this machine allows" in line])

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_a_broker_for_attached_workers_serves(self):
        directory = testlib.Broker("").directory
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        certificate = testlib.Certificate(directory)
        os.chmod(certificate.key, 0o644)
        port = testlib.free_port()
        config = (f'[broker]\nruntime_dir = "{directory}/run"\n[certificate.c]\nchain = "{certificate.chain}"\n'
                  f'key = "{certificate.key}"\n[service.echo]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\n'
                  'allow_users = ["www-data"]\n')
        shutil.chown(directory, "nobody")
        os.environ["UNDER_UNIT_USER"] = "nobody"
        self.addCleanup(os.environ.pop, "UNDER_UNIT_USER")
        with testlib.Broker(config, directory=directory,
                            launcher=[sys.executable, LAUNCHER, unit("tlsbroker-attached"), directory]) as broker:
            for role, pids in broker.processes().items():
                for pid in pids:
                    with open(f"/proc/{pid}/status", encoding="ascii") as file:
                        self.assertIn("CapEff:\t0000000000000000", file.read(), role)
            worker = subprocess.Popen(
                [sys.executable, os.path.join(testlib.SOURCE, "tests/testlib/attached_worker.py"),
                 f"{directory}/run/echo.sock", "33", "33"], stdout=subprocess.DEVNULL,
                env=dict(os.environ, PYTHONPATH=os.path.dirname(LAUNCHER), **testlib.sanitizer_environment()))
            try:
                def answer():
                    with testlib.tls_connect(port, testlib.tls_context(certificate)) as tls:
                        return tls.recv(100)

                self.assertEqual(answer(), b"echo\n")
                # In /proc this supervisor cannot see its children.
                handshaker = broker.pid_of("handshaker[0]", "echo")
                os.kill(handshaker, signal.SIGSTOP)
                broker.wait_for_log(f"hangs, killed role=.* pid={handshaker} .* state=[?]")
                broker.wait_for_log(r"started role=handshaker\[1\]")
                self.assertEqual(answer(), b"echo\n")
            finally:
                worker.kill()
                worker.wait()


class DropIns(unittest.TestCase):
    """The examples of drop-ins: systemd knows each setting, also those that are behind a #."""

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_settings(self):
        directory = os.path.join(testlib.SOURCE, "examples/systemd")
        for name in sorted(os.listdir(directory)):
            if not name.endswith(".conf"):
                continue
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                lines = [line.lstrip("#") for line in file.read().splitlines() if re.match(r"#?\w+=|\[", line)]
            broker = testlib.Broker("")
            self.addCleanup(shutil.rmtree, broker.directory)
            path = os.path.join(broker.directory, "tried.service")
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join([*lines, "ExecStart=/bin/true"]) + "\n")
            shown = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path], capture_output=True,
                                   text=True, timeout=60, check=False).stderr
            complaints = [line for line in shown.splitlines() if "tried.service" in line]
            if name == "renewed-credentials.conf":  # of systemd 260
                complaints = [line for line in complaints if "RefreshOnReload" not in line]
            self.assertEqual(complaints, [], name)


class Stops(unittest.TestCase):
    def test_only_the_supervisor_is_told_and_has_the_time(self):
        """The supervisor says how long it needs (tests/integration/test_service_manager.py); the unit's time is enough for the
        default of drain_timeout, 30 s, and for what comes behind it."""
        for name in ("tlsbroker", "tlsbroker-attached"):
            values = settings(name)
            self.assertEqual(values["KillMode"], ["process"])
            self.assertGreaterEqual(int(values["TimeoutStopSec"][0]), 60)


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class UnderTheUnit(unittest.TestCase):
    """Uses that the manual has, with the restrictions of tlsbroker.service."""

    def start(self, service):
        service._launcher = [sys.executable, LAUNCHER, unit("tlsbroker"), service.directory]
        return self.enterContext(service)

    @staticmethod
    def daemon(count=1):
        words = ["/usr/bin/python3", "-c", DAEMON, "8080"]
        names = [f"daemon{number}" for number in range(count)]
        return exec_service.ExecService(dict.fromkeys(names, words), daemons=names)

    @unittest.skipIf(os.path.exists(LOOPBACK_SOCKET), "systemd gives networks here")
    def test_a_daemon_serves(self):
        """Two of them, each in a network of its own: both listen on the same port."""
        with Loopbacks() as loopbacks:
            service = self.start(self.daemon(2))
            for name in ("daemon0", "daemon1"):
                self.assertEqual(service.talk(name), b"127.0.0.1")
            self.assertGreaterEqual(loopbacks.answered, 2)
            workers = service.processes()["worker"]
            networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in workers}
            self.assertEqual(len(networks), 2)
            self.assertNotIn(os.readlink("/proc/self/ns/net"), networks)

    @unittest.skipIf(os.path.exists(LOOPBACK_SOCKET), "systemd gives networks here")
    def test_a_daemon_does_not_get_the_network_of_the_machine(self):
        with Loopbacks(new_network=False):
            service = self.start(self.daemon())
            service.wait_for_log("systemd cannot make a network for tlsbroker-loopback@.service here")

    @unittest.skipIf(os.path.exists(LOOPBACK_SOCKET), "systemd gives networks here")
    def test_a_daemon_without_a_network_says_what_is_missing(self):
        service = self.start(self.daemon())
        service.wait_for_log("needs CAP_NET_ADMIN, or tlsbroker-loopback.socket of systemd: /run/tlsbroker-loopback.sock")

    def test_read_write_says_what_is_missing(self):
        service = exec_service.ExecService({"writer": ["/bin/sh", "-c", "echo written >{home}/writable/file && echo done"]},
                                           lines='read_write = ["{home}/writable"]')
        self.start(service)
        service.wait_for_log(f"read-only here; under systemd add ReadWritePaths={service.writable} to the unit")

    def test_read_write_works_where_the_unit_allows_it(self):
        directory = testlib.Broker("").directory
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        os.mkdir(f"{directory}/writable")
        os.chmod(f"{directory}/writable", 0o777)
        service = exec_service.ExecService({"writer": ["/bin/sh", "-c", f"echo written >{directory}/writable/file && echo done"]},
                                           lines=f'read_write = ["{directory}/writable"]', directory=directory)
        self.start(service)
        self.assertEqual(service.talk("writer"), b"done\n")

    def reload(self, service):
        """What `systemctl reload` runs, confined like everything of the unit."""
        (command,) = settings("tlsbroker")["ExecReload"]
        words = command.replace("${RUNTIME_DIRECTORY}", os.path.join(service.directory, "run")).split()
        words[0] = testlib.program("client-lib/tools/tlsbroker")
        # LeakSanitizer makes system calls that the unit refuses.
        return subprocess.run([sys.executable, LAUNCHER, unit("tlsbroker"), service.directory, *words], capture_output=True,
                              text=True, timeout=60 * testlib.PATIENCE, check=False,
                              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))

    def test_a_reload_fails_when_it_has_failed(self):
        service = echo_service.EchoService({"echo": "prefer"})
        self.start(service)
        service.write_config(service.text().replace('["127.0.0.1', '["127.0.0.1", "nonsense'))
        done = self.reload(service)
        self.assertEqual((done.returncode, done.stdout), (100, ""))
        self.assertIn("the previous configuration stays in force", done.stderr)
        service.write_config(service.text())
        done = self.reload(service)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(service.ask())


if __name__ == "__main__":
    unittest.main()
