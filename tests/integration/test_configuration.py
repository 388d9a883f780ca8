# SPDX-License-Identifier: Apache-2.0
"""The keys of the configuration: the reader, the manual, and the file from which the fuzzer starts have to know the same ones.
And its files and variables, as a running broker has them."""

import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import broker as testlib
import echo_service

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED = os.path.join(ROOT, "tests", "fuzz", "corpus", "config", "every-key")
PAGE = os.path.join(ROOT, "broker", "man", "tlsbroker.toml.5")
NOBODYS = "zzzzzzzzzzzzzzzz"
TABLE = re.compile(r"(?m)^(\w+) = \{")


def kind(title):
    """"[service.web.worker.limits]" is of the kind "[service.NAME.worker]", "[service.web.handshakers]" of "[service.NAME]"."""
    first, *others = title.strip("[]").split(".")
    return f"[{first}" + (".NAME" if others else "") + (".worker" if others[1:2] == ["worker"] else "") + "]"


def sections(text):
    """{kind of section: its keys}; the keys of an inline table count as keys of the section."""
    found, current = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            current = found.setdefault(kind(line), set())
        elif " = " in line:
            current.add(line.split(" = ")[0])
            if TABLE.match(line):
                current.update(re.findall(r"[{,] (\w+) = ", line))
    return found


def reader_knows(text):
    """The keys that the reader knows, as {kind of section: keys}: taken from its messages about a key that does not exist."""
    text = re.sub(r"(?m)^(\[.*\])$", rf"\1\n{NOBODYS} = 1", text)
    text = TABLE.sub(rf"\1 = {{ {NOBODYS} = 1,", text)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        said = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--config", file.name, "--check"],
                              capture_output=True, text=True, check=False).stderr
    found = {}
    for title, keys in re.findall(rf"unknown key '{NOBODYS}' in (\[.*?\]); known are: (.*)", said):
        found.setdefault(kind(title), set()).update(keys.split(", "))
    return found


def manual_has():
    found, current = {}, set()
    with open(PAGE, encoding="utf-8") as file:
        for line in file.read().split(".Sh EXAMPLES")[0].splitlines():
            if line.startswith(".Ss ["):
                current = found.setdefault(line[4:], set())
            elif line.startswith(".It Ic "):
                current.update(line[7:].split(" , "))
    return found


class Keys(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        with open(SEED, encoding="utf-8") as file:
            self.seed = file.read()

    def test_of_the_seed_are_those_of_the_reader(self):
        tables = {"[service.NAME]": {"worker"}}
        known = {title: keys - tables.get(title, set()) for title, keys in reader_knows(self.seed).items()}
        self.assertEqual(known, sections(self.seed))

    def test_of_the_manual_are_those_of_the_seed(self):
        page = manual_has()
        self.assertEqual(page, {title: keys for title, keys in sections(self.seed).items() if title in page})
        self.assertEqual(set(page), set(sections(self.seed)))


class Files(unittest.TestCase):
    """The services of the broker are in conf.d, one in each file."""

    def setUp(self):
        self.service = echo_service.EchoService({"echo": "never", "other": "never"})
        self.addCleanup(shutil.rmtree, self.service.directory, ignore_errors=True)
        self.addCleanup(self.service.stop)
        self.directory = os.path.join(self.service.directory, "conf.d")
        os.mkdir(self.directory)
        head, self.echo, self.other = re.split(r"(?=^\[service\.\w+\]$)", self.service.text(), flags=re.M)
        self.service.write_config(head)

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w", encoding="utf-8") as file:
            file.write(text)

    def remove(self, name):
        os.unlink(os.path.join(self.directory, name))

    def reload(self, expect):
        start = len(self.service.log)
        self.service.signal(signal.SIGHUP)
        return self.service.wait_for_log(expect, start=start)

    def check(self, *launcher):
        ran = subprocess.run([*launcher, testlib.program("broker/supervisor/tlsbrokerd"), "--check",
                              "--config", self.service.config_file], capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    def test_are_read_again_by_a_reload(self):
        self.write("echo.toml", self.echo)
        with self.service as service:
            self.assertTrue(service.ask())
            self.write("other.toml", self.other)
            self.reload("in force config=.*/broker.toml files=3 .* started=other removed=-$")
            self.assertTrue(service.ask(service="other"))
            self.assertEqual(service.status()["config_files"],
                             [service.config_file, *(os.path.join(self.directory, name) for name in ("echo.toml", "other.toml"))])
            self.write("third.toml", self.other)
            self.reload(r"conf.d/third.toml:1:1: \[service.other\] is given twice, also at /.*/conf.d/other.toml:1:1; leave out")
            service.wait_for_log("reload failed")
            self.remove("third.toml")
            self.remove("other.toml")
            self.reload("in force config=.*/broker.toml files=2 .* started=- removed=other$")
            self.assertTrue(service.ask())

    def test_each_fault_is_in_its_own(self):
        """Also those that are found when the text has been read: users, files, programs, keys."""
        self.write("echo.toml", self.echo.replace("www-data", "nobody-at-all"))
        self.write("other.toml", self.other.replace("/usr/bin/python3", "/nowhere/python3"))
        status, _, said = self.check()
        self.assertEqual(status, 78)
        self.assertRegex(said, r'(?m)^/.*/conf.d/echo.toml:\d+:8: there is no user "nobody-at-all"')
        self.assertRegex(said, r'(?m)^/.*/conf.d/other.toml:\d+:11: "/nowhere/python3" cannot be found')
        self.write("echo.toml", self.echo)
        self.write("other.toml", self.other.replace(f'"{self.service.certificates[0].id}"', '"c"'))
        self.write("x.toml", f'[certificate.c]\nchain = "{self.service.certificates[0].chain}"\nkey = "{__file__}"\n')
        status, _, said = self.check()
        self.assertEqual(status, 78)
        self.assertRegex(said, r"(?m)^/.*/conf.d/x.toml:3:7: ")

    def test_that_are_good_are_named(self):
        self.write("echo.toml", self.echo)
        status, said, wrong = self.check()
        self.assertEqual((status, wrong), (0, ""))
        good = [self.service.config_file, os.path.join(self.directory, "echo.toml")]
        self.assertEqual(said.splitlines()[-2:], [f"{name}: ok" for name in good])

    def test_worker_that_cannot_start(self):
        """The log says the place of now, also after the text has moved."""
        self.write("echo.toml", self.echo)
        self.write("other.toml", self.other.replace("/usr/bin/python3", "/nowhere/python3"))
        with self.service as service:
            service.wait_for_log(r"conf.d/other.toml:8:11: the worker cannot be started: .*nowhere")
            self.remove("other.toml")
            self.write("moved.toml", "\n" + self.other.replace("/usr/bin/python3", "/nowhere/python3"))
            self.reload("in force .* started=- removed=-")
            service.wait_for_log(r"conf.d/moved.toml:9:11: the worker cannot be started: .*nowhere", timeout=30)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_of_somebody_else(self):
        """Nobody has named them, and root runs what they say."""
        self.write("echo.toml", self.echo)
        path = os.path.join(self.directory, "echo.toml")
        for one, name in ((path, "echo.toml"), (self.directory, "conf.d")):
            os.chown(one, 1, 1)
            self.assertRegex(self.check()[2], rf"{name}:1:1: belongs to uid 1; chown it to root, or remove it")
            os.chown(one, 0, 0)
            os.chmod(one, 0o775)
            self.assertRegex(self.check()[2], rf"{name}:1:1: can be written by others than its owner; chmod go-w")
            os.chmod(one, 0o755)
        self.assertEqual(self.check()[2], "")
        for one in (path, self.directory, self.service.config_file):
            os.chown(one, 1, 1)
        self.assertEqual(self.check()[2], "")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_that_the_broker_may_not_read(self):
        """As under the shipped units, which take root's power over files."""
        self.check = functools.partial(self.check, "setpriv", "--bounding-set=-dac_override,-dac_read_search")
        self.write("echo.toml", self.echo)
        path = os.path.join(self.directory, "echo.toml")
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o600)
        self.assertRegex(self.check()[2], "conf.d/echo.toml:1:1: cannot be read: Permission denied; make it readable for uid 0")
        os.chown(self.directory, 65534, 65534)
        os.chmod(self.directory, 0o700)
        self.assertRegex(self.check()[2], "conf.d:1:1: cannot be read: Permission denied; a directory that the broker may read")
        os.chown(self.directory, 0, 0)
        os.chown(path, 0, 0)
        self.assertEqual(self.check()[2], "")
        os.chown(self.service.directory, 65534, 65534)
        self.assertRegex(self.check()[2], 'broker.toml:3:15: "/.*/run" cannot be created: Permission denied')
        os.mkdir(os.path.join(self.service.directory, "run"))
        os.chown(os.path.join(self.service.directory, "run"), 65534, 65534)
        self.assertRegex(self.check()[2], 'broker.toml:3:15: "/.*/run" cannot be written to: Permission denied')


class Variables(unittest.TestCase):
    def test_reach_no_other_process(self):
        """Workers get those that `environment` gives them."""
        service = echo_service.EchoService({"echo": "never"}, worker_lines='environment = { GIVEN = "<${TB_GIVEN}>" }')
        service.environment = {"TB_GIVEN": "given", "TB_PORT": str(service.ports["echo"])}
        service.write_config(service.text().replace(f':{service.ports["echo"]}"', ':${TB_PORT}"'))
        with service:
            self.assertTrue(service.ask())
            for role, pids in service.processes().items():
                with open(f"/proc/{pids[0]}/environ", "rb") as file:
                    variables = file.read().split(b"\0")
                named = [variable for variable in variables if b"TB_" in variable or variable.startswith(b"GIVEN=")]
                if role != "supervisor":
                    self.assertEqual(named, [b"GIVEN=<given>"] if role == "worker" else [])

    def test_that_are_missing(self):
        with self.assertRaises(AssertionError) as raised, testlib.Broker('[service."a"]\nlisten = ["127.0.0.1:${TB_PORT}"]\n'):
            pass
        self.assertRegex(str(raised.exception), r'broker.toml:5:11: the variable TB_PORT is not in the environment of the '
                                                r'broker; set it, write "\$\{TB_PORT:-default\}", or "\$\$\{TB_PORT\}"')


if __name__ == "__main__":
    unittest.main()
