#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tlsbroker probe` as its users run it. Runs on any kernel; in the guests the probe must find what TLSBROKER_EXPECT names,
without what TLSBROKER_WITHOUT_MODULE took away (the argument of tests/vm/boot --without-module)."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get("TLSBROKER_BUILD") or pathlib.Path(__file__).resolve().parents[2] / "build")
TOOL = BUILD / "client-lib/tools/tlsbroker"
EXPECT = os.environ.get("TLSBROKER_EXPECT", "").split(",")
WITHOUT = os.environ.get("TLSBROKER_WITHOUT_MODULE", "")
SUITES = ("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305")
FEATURES = ("tls-hw-tx-offload", "tls-hw-rx-offload", "tls-hw-record")


def run(*arguments, **options):
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=120, check=False, **options)


def probe_json():
    done = run("probe", "--json")
    assert done.returncode == 0, done
    checked = subprocess.run([sys.executable, "-m", "json.tool"], input=done.stdout, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    return json.loads(done.stdout)


class Result(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.result = probe_json()

    def supports(self):
        for each in self.result["combinations"]:
            yield each["tx"]
            yield each["rx"]
        yield from self.result["rekey"].values()
        yield self.result["ulp"]

    def test_every_combination_is_there_once(self):
        found = [(each["version"], each["suite"]) for each in self.result["combinations"]]
        self.assertEqual(sorted(found), sorted((version, suite) for version in ("TLSv1.2", "TLSv1.3") for suite in SUITES))

    def test_every_no_has_its_reason(self):
        for support in self.supports():
            if not support["ok"]:
                self.assertRegex(support["reason"], r"^[a-z0-9-]+$")
                self.assertTrue(support["detail"])

    def test_kernel_and_openssl_are_named(self):
        self.assertEqual(self.result["kernel"], os.uname().release)
        self.assertRegex(self.result["openssl"], r"^OpenSSL 3")
        self.assertTrue(all(each["openssl_offers"] for each in self.result["combinations"]))

    def test_interfaces(self):
        names = [each["name"] for each in self.result["interfaces"]]
        self.assertCountEqual(names, [path.name for path in pathlib.Path("/sys/class/net").iterdir() if path.is_dir()])
        loopback = next(each for each in self.result["interfaces"] if each["name"] == "lo")
        for feature in FEATURES[:2]:
            self.assertEqual(loopback[feature], {"on": False, "fixed": True})

    def test_the_guest_can_do_what_it_must(self):
        if "ktls" not in EXPECT:
            self.skipTest("TLSBROKER_EXPECT does not say that this kernel has kTLS")
        lost = {"": (), "tls": SUITES, "gcm": SUITES[:2], "chacha20poly1305": SUITES[2:]}[WITHOUT]
        for each in self.result["combinations"]:
            self.assertEqual(each["direct"], each["suite"] not in lost, each)
        for direction in self.result["rekey"].values():
            self.assertEqual(direction["ok"], "rekey" in EXPECT and WITHOUT != "tls", direction)

    def test_without_the_module_it_says_so(self):
        if self.result["ulp"]["ok"]:
            return
        self.assertEqual({support["reason"] for support in self.supports()}, {"kernel-no-tls-ulp"})
        self.assertIn("connections will be relayed", self.result["conclusion"])
        self.assertIn("modprobe tls", self.result["ulp"]["detail"])

    def test_the_table_says_the_same(self):
        done = run("probe")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(self.result["conclusion"], done.stdout.splitlines())
        for each in self.result["combinations"]:
            row = next(line for line in done.stdout.splitlines() if line.startswith(each["version"]) and each["suite"] in line)
            self.assertEqual(row.split()[2] == "yes", each["tx"]["ok"], row)


class CommandLine(unittest.TestCase):
    def fake(self, script):
        file = tempfile.NamedTemporaryFile("w", delete=False, suffix=".sh")
        self.addCleanup(os.unlink, file.name)
        with file:
            file.write("#!/bin/sh\n" + script)
        os.chmod(file.name, 0o755)
        return file.name

    def expect_failure(self, handshaker, text):
        done = run("probe", "--handshaker", handshaker)
        self.assertEqual((done.returncode, done.stdout), (111, ""))
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_probe_that_cannot_run(self):
        self.expect_failure("/nonexistent/handshaker", "No such file or directory")
        self.expect_failure(self.fake("exit 3"), "exited with status 3")
        self.expect_failure(self.fake("kill -9 $$"), "Killed")
        self.expect_failure(self.fake("echo kernel"), "of another version")
        self.expect_failure(self.fake("yes"), "gave no result")

    def test_usage(self):
        self.assertEqual(run("probe", "--frobnicate").returncode, 100)
        self.assertEqual(run("probe", "--handshaker").returncode, 100)
        self.assertEqual(run().returncode, 100)
        self.assertEqual(run("no-such-command").returncode, 100)
        self.assertIn("--json", run("probe", "--help").stdout)
        self.assertIn("probe", run("--help").stdout)
        self.assertRegex(run("--version").stdout, r"^tlsbroker \d+\.\d+\.\d+\n$")

    def test_a_full_disk_is_no_success(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([TOOL, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 111)
        self.assertIn("No space left", done.stderr)

    def test_links_no_tls_library(self):
        needed = subprocess.run(["readelf", "-d", TOOL], capture_output=True, text=True, timeout=60, check=True).stdout
        for library in ("libssl", "libcrypto", "absl"):
            self.assertNotIn(library, needed)


if __name__ == "__main__":
    unittest.main()
