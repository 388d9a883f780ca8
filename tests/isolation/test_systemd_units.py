# SPDX-License-Identifier: Apache-2.0
"""The units: how systemd rates them, and a broker that serves under their restrictions."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

import broker as testlib
import echo_service

UNITS = testlib.program("broker/systemd")
LAUNCHER = os.path.join(testlib.SOURCE, "tests/testlib/under_unit.py")


def unit(name):
    return os.path.join(UNITS, name + ".service")


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

    def test_they_are_well_formed(self):
        for name in ("tlsbroker.service", "tlsbroker-attached.service", "tlsbroker.socket"):
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


if __name__ == "__main__":
    unittest.main()
