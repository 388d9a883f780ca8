# SPDX-License-Identifier: Apache-2.0
"""`tlsbroker status`: what it says of a running broker, as a table and as JSON, and what it says when there is no broker."""

import json
import os
import re
import socket
import subprocess
import unittest

import broker as testlib

TOOL = testlib.program("client-lib/tools/tlsbroker")
PAGE = os.path.join(testlib.SOURCE, "broker/man/tlsbroker-status.1")
ECHO = os.path.join(testlib.SOURCE, "tests/testlib/echo_worker.py")
CONFIG = """
[certificate.one]
chain = "{chain}"
key = "{key}"
[service.web]
listen = ["127.0.0.1:{port}"]
certificates = ["one"]
ktls = "never"
backlog = 16
[service.web.worker]
command = ["/usr/bin/python3", "{echo}"]
user = "www-data"
read_only = ["{testlib}"]
[service.later]
listen = ["127.0.0.1:{other}"]
certificates = ["one"]
allow_users = ["www-data"]
"""


class Status(unittest.TestCase):
    def setUp(self):
        self.port = testlib.free_port()
        self.broker = testlib.Broker("")
        self.certificate = testlib.Certificate(self.broker.directory)
        values = {"chain": self.certificate.chain, "key": self.certificate.key, "echo": ECHO, "testlib": os.path.dirname(ECHO), "port": str(self.port),
                  "other": str(testlib.free_port())}
        text = CONFIG
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        self.broker.write_config(text)
        self.enterContext(self.broker)
        self.run_dir = os.path.join(self.broker.directory, "run")

    def tool(self, *arguments, **options):
        return subprocess.run([TOOL, "status", "--runtime-dir", self.run_dir, *arguments], capture_output=True,
                              text=True, timeout=20 * testlib.PATIENCE, **options)

    def state(self):
        return json.loads(self.tool("--json").stdout)

    def talk(self, session=None):
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate), session=session) as tls:
            tls.sendall(b"WHO\n")
            return tls.recv(10_000)

    def test_counts_and_names(self):
        for _ in range(3):
            self.talk()
        testlib.wait_until(lambda: self.state()["services"][1]["relay"] == 3, "three counted")
        state = self.state()
        self.assertEqual((state["state"], state["last_reload"]), ("serving", None))
        later, web = state["services"]
        self.assertEqual((web["state"], web["generation"], web["handshakers"], web["hung"], web["left_behind"]),
                         ("serving", 1, 1, 0, 0))
        self.assertEqual((web["name"], web["direct"], web["last_reason"]), ("web", 0, "ktls-never"))
        self.assertEqual((web["queue"]["waiting"], web["attached"]), (0, None))
        self.assertEqual(len(web["worker"]["running"]), 1)
        self.assertEqual((later["worker"], later["attached"]), (None, []))
        (certificate,) = state["certificates"]
        self.assertEqual(certificate["name"], "one")
        self.assertIn(certificate["days_left"], (29, 30))
        self.assertEqual(state["counters"]["handshakes_full"], 3)
        real = self.broker.processes()
        told = [p["pid"] for p in state["processes"]]
        self.assertEqual(sorted(told), sorted(p for role in real if role != "worker" for p in real[role]))
        self.assertEqual([w["pid"] for w in web["worker"]["running"]], real["worker"])

    def test_the_manual_has_each_member(self):
        """And none that is not there. Bold words are members, but for those that are values of one."""
        self.talk()  # the worker runs
        self.broker.signal(1)
        testlib.wait_until(lambda: self.state()["last_reload"], "a reload")
        members = set()

        def walk(value):
            if isinstance(value, dict):
                members.update(value)
            for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
                walk(inner)

        walk(self.state())
        with open(PAGE, encoding="utf-8") as file:
            text = file.read().partition(".SH JSON\n")[2].partition("\n.SH ")[0]
        bold = set()
        for macro, rest in re.findall(r"(?m)^\.([BR]{1,2}) (.*)", text):
            words = re.findall(r'"[^"]*"|\S+', rest)
            step = len(macro)  # .BR and .RB take turns
            bold.update(word.strip('" ') for word in words[macro.find("B")::step])
        values = {"tlsbrokerd", "stopping", "starting", "serving", "hung", "ending", "left behind", "porter", "restarting", "waiting", "stopped"}
        self.assertEqual(members - bold, set(), "the manual does not have")
        elsewhere = {"uid", "who", "what"}  # of a worker that has attached; of what this machine lacks
        self.assertEqual(bold - members - values - elsewhere, set(), "the status does not have")

    def test_failed_and_refused(self):
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertEqual(len(plain.recv(100)), 7, "an alert")
        testlib.wait_until(lambda: self.state()["counters"]["handshakes_failed"] == 1, "the failure")

    def test_table(self):
        self.talk()
        shown = self.tool()
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        for wanted in (", serving, up ", "SERVICE", "web", "0 of 16", "0 attached", "CERTIFICATE",
                       "HANDSHAKES", "REFUSED", "worker "):
            self.assertIn(wanted, shown.stdout)
        print(shown.stdout)

    def test_a_failed_reload_is_said(self):
        with open(self.broker.config_file, encoding="utf-8") as file:
            text = file.read()
        self.broker.write_config(text + "\nnonsense = 1\n")
        self.broker.signal(1)
        self.broker.wait_for_log("reload failed")
        self.assertEqual(self.state()["last_reload"]["ok"], False)
        self.assertIn("The last reload failed", self.tool().stdout)

    def test_waiting_connections(self):
        self.talk()  # the worker is up
        worker = self.broker.processes()["worker"][0]
        os.kill(worker, 19)
        try:
            held = [testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) for _ in range(5)]
            testlib.wait_until(lambda: self.state()["services"][1]["queue"]["waiting"] >= 4, "a queue that fills")
        finally:
            os.kill(worker, 18)
        testlib.wait_until(lambda: self.state()["services"][1]["queue"]["waiting"] == 0, "an empty queue")
        for tls in held:
            tls.close()

    def test_others_may_not_ask(self):
        refused = self.tool(user="nobody", group="nogroup")
        self.assertEqual(refused.returncode, 100)
        self.assertIn("only the user who started the broker", refused.stderr)

    def test_without_a_broker(self):
        self.broker.signal(15)
        self.broker.process.wait(20 * testlib.PATIENCE)
        asked = self.tool()
        self.assertEqual((asked.returncode, asked.stdout), (111, ""))
        self.assertIn("no broker runs with this runtime directory", asked.stderr)

    def test_a_reader_that_does_not_read_keeps_nobody_waiting(self):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(os.path.join(self.run_dir, "status"))
            self.assertEqual(self.tool().returncode, 0)
            self.assertTrue(self.talk())


@unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
class WithoutRoot(unittest.TestCase):
    def test_what_the_confinement_lacks_is_said(self):
        user = 65534
        broker = testlib.Broker("", user=user)
        certificate = testlib.Certificate(broker.directory)
        os.chown(certificate.key, user, user)
        broker.write_config(f'[certificate.c]\nchain = "{certificate.chain}"\nkey = "{certificate.key}"\n'
                            f'[service.web]\nlisten = ["127.0.0.1:{testlib.free_port()}"]\ncertificates = ["c"]\n')
        with broker:
            shown = subprocess.run([TOOL, "status", "--runtime-dir", os.path.join(broker.directory, "run")], user=user,
                                   capture_output=True, text=True, timeout=20 * testlib.PATIENCE, check=True).stdout
            self.assertIn("Confinement lacks here, for keyholders, handshakers, porters, loggers: a user of its own (not root).", shown)
            said = [line for line in broker.log if "without: a user of its own (not root)" in line]
            self.assertEqual(len({line.split()[0] for line in said}), len(said), "once by each process")
            self.assertTrue(said)


class Usage(unittest.TestCase):
    def test_usage(self):
        self.assertEqual(subprocess.run([TOOL, "status", "--help"], capture_output=True, timeout=10).returncode, 0)
        self.assertEqual(subprocess.run([TOOL, "status", "x"], capture_output=True, timeout=10).returncode, 100)


if __name__ == "__main__":
    unittest.main()
