# SPDX-License-Identifier: Apache-2.0
"""Reloads under load, with relayed connections; and `tlsbroker reload`."""

import concurrent.futures
import os
import re
import signal
import subprocess
import time
import unittest

import broker as testlib
import echo_service
import reload_cases

TOOL = testlib.program("client-lib/tools/tlsbroker")


class UnderLoad(reload_cases.UnderLoad, unittest.TestCase):
    ktls = "never"


class Thousand(unittest.TestCase):
    RELOADS = 100 if testlib.sanitized() else 1000

    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}))
        self.context = self.service.context()

    def handshake(self):
        with self.service.connect(context=self.context, timeout=60) as tls:
            tls.sendall(b"ECHO 4\nping")
            self.assertEqual(tls.recv(100), b"ping")

    def kept(self):
        """What a reload must not add to: the processes by role, and the number of the supervisor's descriptors."""
        roles = sorted(process["role"].partition("[")[0] for process in self.service.status()["processes"])
        return roles, len(os.listdir(f"/proc/{self.service.process.pid}/fd"))

    def test_reloads_in_a_row(self):
        self.handshake()
        before = self.kept()
        load = reload_cases.Load(self.handshake)
        self.addCleanup(load.finish)
        for number in range(self.RELOADS):
            self.service.lines = f'alpn = ["{("h2", "http/1.1")[number % 2]}"]'
            self.service.reload("in force .* started=echo removed=-$")
        served = load.finish()
        self.assertEqual(load.failures, [])
        print(f"\n  {self.RELOADS} reloads; served meanwhile: {served}", flush=True)
        testlib.wait_until(lambda: self.kept() == before, f"processes and descriptors as before, {before}: {self.kept()}")


class OfOneService(unittest.TestCase):
    """A reload touches the services that changed, and no others."""

    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never", "other": "never"}))

    def generations(self):
        return {service["name"]: service["generation"] for service in self.service.status()["services"]}

    def pids(self, name):
        return {(process["role"], process["pid"]) for process in self.service.status()["processes"]
                if process["service"] == name and process["role"] != "logger"}

    def test_nothing(self):
        for name in ("echo", "other"):
            self.service.ask(service=name)  # so that its worker runs
        before = [self.pids("echo"), self.pids("other"), self.service.processes()["worker"]]
        for _ in range(3):
            self.service.reload("in force .* started=- removed=-$")
        self.assertEqual([self.pids("echo"), self.pids("other"), self.service.processes()["worker"]], before)

    def test_one(self):
        other = self.pids("other")
        with self.service.connect(service="other") as held:
            self.service.lines = {"echo": 'alpn = ["h2"]', "other": echo_service.SERVICE_LINES}
            self.service.reload("in force .* started=echo removed=-$")
            self.assertEqual(self.generations(), {"echo": 2, "other": 1})
            self.assertEqual(self.pids("other"), other)
            held.sendall(b"WHO\n")
            self.assertTrue(held.recv(1000))
        self.assertTrue(self.service.ask())

    def test_a_certificate_of_both(self):
        self.service.certificates[0].__init__(self.service.home)
        self.service.reload("in force .* started=echo,other removed=-$")
        self.assertEqual(self.generations(), {"echo": 2, "other": 2})

    def test_one_less_and_one_more(self):
        echo = self.pids("echo")
        self.service.services = {"echo": "never", "third": "never"}
        self.service.ports["third"] = testlib.free_port()
        self.service.reload("in force .* started=third removed=other$")
        self.assertEqual(self.pids("echo"), echo)
        self.assertTrue(self.service.ask(service="third"))
        with self.assertRaises(OSError):
            self.service.ask(service="other")
        testlib.wait_until(lambda: not self.pids("other"), "its end")

    def test_away_and_back(self):
        """A service is removed and added again with the same name and address, while its processes from before are still
        finishing."""
        with self.service.connect(service="other", timeout=60) as held:
            for _ in range(5):
                del self.service.services["other"]
                self.service.reload("in force .* started=- removed=other$")
                self.service.services["other"] = "never"
                self.service.reload("in force .* started=other removed=-$")
                self.assertTrue(self.service.ask(service="other"))
            held.sendall(b"WHO\n")
            self.assertTrue(held.recv(1000))
        testlib.wait_until(lambda: len(self.pids("other")) == 2, "the end of what was before")

    def test_a_directory_of_a_worker_that_is_gone(self):
        """The directory may be the worker's own, so that the worker can remove it: if it was there at the start, its absence must
        not prevent a reload."""
        own = os.path.join(self.service.home, "own")
        os.mkdir(own)
        self.service.worker_lines = {"echo": f'read_write = ["{own}"]', "other": ""}
        self.service.reload("in force")
        os.rename(own, own + ".away")
        self.service.lines = {"echo": echo_service.SERVICE_LINES, "other": 'alpn = ["h2"]'}
        self.service.reload("in force .* started=other removed=-$")

    def test_two_change_their_addresses(self):
        ports = self.service.ports
        with self.service.connect(service="echo") as held:
            for _ in range(10):
                ports["echo"], ports["other"] = ports["other"], ports["echo"]
                self.service.reload("in force .* started=echo,other removed=-$")
                for name in ports:
                    self.assertTrue(self.service.ask(service=name))
            held.sendall(b"WHO\n")
            self.assertTrue(held.recv(1000))

    def test_all_or_none(self):
        """One service has a fault in its configuration: nothing changes in the other services either."""
        before = [self.pids("echo"), self.pids("other")]
        key = testlib.Certificate(self.service.home, name="other.test").key
        text = self.service.text().replace('alpn = ["http/1.1"]', 'alpn = ["h2"]', 1)
        certificate = self.service.certificates[0]
        text += f'[certificate.bad]\nchain = "{certificate.chain}"\nkey = "{key}"\n'
        text += f'[service.bad]\nlisten = ["127.0.0.1:{testlib.free_port()}"]\ncertificates = ["bad"]\n'
        start = len(self.service.log)
        self.service.write_config(text)
        self.service.signal(signal.SIGHUP)
        self.service.wait_for_log("reload failed", start=start)
        testlib.wait_until(lambda: [self.pids("echo"), self.pids("other")] == before, "end of what was started")
        self.assertEqual(self.generations(), {"echo": 1, "other": 1})


class AtRest(unittest.TestCase):
    def test_two_change_their_addresses(self):
        """No process keeps the listeners from before open, also not the supervisor, which waits there for a first connection."""
        service = self.enterContext(echo_service.EchoService({"echo": "never", "other": "never"}, lines='start = "on-demand"\n'))
        ports = service.ports
        for _ in range(10):
            ports["echo"], ports["other"] = ports["other"], ports["echo"]
            service.reload("in force .* started=-? removed=-$")
            self.assertEqual([one["not_listening"] for one in service.status()["services"]], [[], []])
        self.assertNotIn("has shut a listener down", service.log_text())
        for name in ports:
            self.assertTrue(service.ask(service=name))


class Command(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}))
        self.run_dir = os.path.join(self.service.directory, "run")

    def reload(self, *arguments, **options):
        done = subprocess.run([TOOL, "reload", "--runtime-dir", self.run_dir, *arguments], capture_output=True,
                              text=True, timeout=200 * testlib.PATIENCE, check=False, **options)
        return done.returncode, done.stdout, done.stderr

    def states(self, count):
        """What the broker tells the service manager, each state as a dictionary."""
        return [dict(line.split("=", 1) for line in state.split("\n")) for state in self.service.notifications(count)]

    def test_good(self):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.assertEqual(self.reload(), (0, "reloaded; new processes: none; removed: none; unchanged: 1\n", ""))
        reloading, ready = self.states(2)
        self.assertEqual(reloading.pop("RELOADING"), "1")
        self.assertGreaterEqual(int(reloading.pop("MONOTONIC_USEC")), before)
        self.assertEqual((reloading, ready), ({}, {"READY": "1", "STATUS": "serving"}))
        self.assertTrue(self.service.ask())

    def test_bad_and_good_again(self):
        good = self.service.text()
        config = re.escape(self.service.config_file)
        other = testlib.Certificate(self.service.home, name="other.test")
        bad = {good.replace('ktls = "never"', 'ktls = "nevr"'): rf"{config}:\d+:\d+: .*nevr.*never",
               good + "\n[x]\n": rf"{config}:\d+:\d+: ",
               good.replace(self.service.certificates[0].key, other.key): rf"{config}:\d+:\d+: certificate .*key",
               good.replace("{runtime_dir}", "{dir}/elsewhere"): rf"{config}:\d+:\d+: 'runtime_dir' was"}
        for text, complaint in bad.items():
            with self.subTest(complaint):
                self.service.write_config(text)
                status, output, errors = self.reload()
                self.assertEqual((status, output), (100, ""))
                self.assertRegex(errors, complaint)
                self.assertIn("the previous configuration stays in force", errors)
                reloading, ready = self.states(2)
                self.assertEqual(reloading["RELOADING"], "1")
                self.assertEqual(ready["READY"], "1")
                self.assertRegex(ready["STATUS"], f"serving; the last reload failed: {complaint}")
                self.assertRegex(" ".join(self.service.status()["last_reload"]["errors"]), complaint)
                self.assertTrue(self.service.ask())
        self.service.write_config(good)
        self.assertEqual(self.reload()[0], 0)
        self.assertEqual(self.states(2)[1]["STATUS"], "serving")
        last = self.service.status()["last_reload"]
        self.assertEqual((last["number"], last["ok"], last["errors"]), (len(bad) + 1, True, []))

    def test_several_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(self.reload) for _ in range(4)]:
                self.assertEqual(done.result()[0], 0)
        self.assertTrue(self.service.ask())

    def test_beside_a_handshaker_that_hangs(self):
        """No process waits for it: its heartbeat is missed, and it is killed."""
        hanging = self.service.processes()["handshaker"][0]
        os.kill(hanging, signal.SIGSTOP)
        self.service.certificates[0].__init__(self.service.home)
        self.service.write_config(self.service.text())
        self.assertEqual(self.reload(), (0, "reloaded; new processes: echo; removed: none; unchanged: 0\n", ""))
        for _ in range(10):
            self.assertTrue(self.service.ask())
        self.service.wait_for_log(rf"hangs, killed role=handshaker\[0\] service=echo generation=1 pid={hanging} ")
        testlib.wait_until(lambda: hanging not in self.service.processes()["handshaker"], "end of it")

    def test_one_that_hangs_is_replaced(self):
        """The broker replaces it within three seconds, without a reload."""
        for role in ("handshaker", "keyholder"):
            with self.subTest(role):
                hanging = self.service.processes()[role][0]
                start, begun = len(self.service.log), time.monotonic()
                os.kill(hanging, signal.SIGSTOP)
                self.service.wait_for_log(rf"hangs, killed role={role}.* pid={hanging} ", start=start)
                if role == "keyholder":
                    self.service.wait_for_log("ready generation=2", start=start)
                self.assertTrue(self.service.ask())
                took = time.monotonic() - begun
                print(f"  {role}: {took:.1f} s")
                self.assertLess(took, 3 * testlib.PATIENCE)
        self.assertEqual(self.service.status()["services"][0]["hung"], 2)

    def test_while_it_stops(self):
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            self.service.signal(signal.SIGTERM)
            self.service.wait_for_log("stopping")
            self.assertEqual(self.reload(), (111, "", "tlsbroker reload: the broker is stopping\n"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_not_by_others(self):
        status, _, errors = self.reload(user="nobody", group="nogroup")
        self.assertEqual(status, 100)
        self.assertIn("only the user who started the broker", errors)
        self.assertNotIn("reloading", self.service.log_text())

    def test_without_a_broker(self):
        self.service.signal(signal.SIGTERM)
        self.service.process.wait(20 * testlib.PATIENCE)
        status, _, errors = self.reload()
        self.assertEqual(status, 111)
        self.assertIn("no broker runs with this runtime directory", errors)

    def test_usage(self):
        self.assertEqual(self.reload("nonsense")[0], 100)
        status, output, _ = self.reload("--help")
        self.assertEqual(status, 0)
        self.assertIn("usage: tlsbroker reload", output)


if __name__ == "__main__":
    unittest.main()
