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


class Command(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(echo_service.EchoService({"echo": "never"}))
        self.run_dir = os.path.join(self.service.directory, "run")

    def reload(self, *arguments, **options):
        done = subprocess.run([TOOL, "reload", "--runtime-dir", self.run_dir, *arguments], capture_output=True,
                              text=True, timeout=200 * testlib.PATIENCE, check=False, **options)
        return done.returncode, done.stdout, done.stderr

    def states(self, count):
        """What the service manager is told, each as a dictionary."""
        return [dict(line.split("=", 1) for line in state.split("\n")) for state in self.service.notifications(count)]

    def test_good(self):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.assertEqual(self.reload(), (0, "reloaded, generation 2 serves\n", ""))
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
                self.assertEqual((status, output), (1, ""))
                self.assertRegex(errors, complaint)
                self.assertIn("the configuration from before stays in force", errors)
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
        hanging = self.service.processes()["handshaker"][0]
        os.kill(hanging, signal.SIGSTOP)
        try:
            self.assertEqual(self.reload()[0], 0)
            self.service.wait_for_log("handshakers do not stop accepting; the next ones begin beside them")
            for _ in range(10):
                self.assertTrue(self.service.ask())
        finally:
            os.kill(hanging, signal.SIGCONT)
        testlib.wait_until(lambda: hanging not in self.service.processes()["handshaker"], "end of it")

    def test_while_it_stops(self):
        with self.service.connect() as held:
            held.sendall(b"WHO\n")
            held.recv(1000)
            self.service.signal(signal.SIGTERM)
            self.service.wait_for_log("stopping")
            self.assertEqual(self.reload(), (1, "", "tlsbroker reload: the broker is stopping\n"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
    def test_not_by_others(self):
        status, _, errors = self.reload(user="nobody", group="nogroup")
        self.assertEqual(status, 1)
        self.assertIn("only the user who started the broker", errors)
        self.assertNotIn("reloading", self.service.log_text())

    def test_without_a_broker(self):
        self.service.signal(signal.SIGTERM)
        self.service.process.wait(20 * testlib.PATIENCE)
        status, _, errors = self.reload()
        self.assertEqual(status, 1)
        self.assertIn("no broker runs with this runtime directory", errors)

    def test_usage(self):
        self.assertEqual(self.reload("nonsense")[0], 2)
        status, output, _ = self.reload("--help")
        self.assertEqual(status, 0)
        self.assertIn("usage: tlsbroker reload", output)


if __name__ == "__main__":
    unittest.main()
