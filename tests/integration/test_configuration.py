# SPDX-License-Identifier: Apache-2.0
"""The keys of the configuration: the reader, the manual, and the file from which the fuzzer starts have to know the same ones."""

import os
import re
import subprocess
import tempfile
import unittest

import broker as testlib

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


if __name__ == "__main__":
    unittest.main()
