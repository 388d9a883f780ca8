# SPDX-License-Identifier: Apache-2.0
"""The command line of `tlsbroker`: the options that its commands know are in the manual, and the shell completes them."""

import os
import re
import shutil
import subprocess
import unittest

import broker as testlib

TOOL = testlib.program("client-lib/tools/tlsbroker")
COMPLETION = os.path.join(testlib.SOURCE, "client-lib/tools/completion.")
USAGE = 100


def run(*arguments):
    return subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=30 * testlib.PATIENCE, check=False)


def completion(*command):
    """The words that the shell completes, without what each is for."""
    lines = [line.split("\t") for line in run(*command, "--complete").stdout.splitlines()]
    assert all(len(line) == 2 and line[1] for line in lines), lines
    return [word for word, _ in lines]


def commands():
    return completion()


def manual(command):
    with open(os.path.join(testlib.SOURCE, f"broker/man/tlsbroker-{command}.1"), encoding="utf-8") as page:
        return page.read().replace("\\-", "-")


class Commands(unittest.TestCase):
    def setUp(self):
        self.commands = commands()
        self.assertGreaterEqual(len(self.commands), 7)

    def test_each_has_its_manual(self):
        """The command and its manual page have the same options, and the page has the exit statuses that all commands share."""
        for command in self.commands:
            with self.subTest(command):
                options = set(completion(command)) - {"--help"}
                page = manual(command)
                # Pages in man(7), and in mdoc(7), which adds one of the dashes itself.
                described = set(re.findall(r"^\.(?:B|BR|BI) \"?(--[a-z-]+)", page, re.M))
                items = re.findall(r"^\.It (.*)", page, re.M)
                described |= {"--" + name for item in items for name in re.findall(r"Fl -([a-z-]+)", item)}
                self.assertEqual(described - {"--help"}, options)
                self.assertRegex(page, r"\b100\b")
                self.assertRegex(page, r"\b111\b")

    def test_each_helps(self):
        for command in self.commands:
            with self.subTest(command):
                done = run(command, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"usage: tlsbroker {command} "))
                self.assertLessEqual(max(map(len, done.stdout.splitlines())), 88)
                for option in completion(command):
                    self.assertRegex(done.stdout, rf"(?m)^  {option}\b")
                self.assertEqual(run(command, "-h").stdout, done.stdout)

    def test_each_refuses(self):
        """All commands refuse in the same way: they say what is wrong, how the command is used, and where there is more help."""
        for command in self.commands:
            with self.subTest(command):
                for arguments, why in ((["--nonsense"], 'no option "--nonsense"'), (["-x"], 'no option "-x"'),
                                       (["--help=yes"], 'no option "--help=yes"')):
                    done = run(command, *arguments)
                    self.assertEqual((done.returncode, done.stdout), (USAGE, ""))
                    self.assertEqual(done.stderr.split("\n")[0], f"tlsbroker {command}: {why}")
                    self.assertTrue(done.stderr.split("\n")[1].startswith(f"usage: tlsbroker {command} "))
                    self.assertTrue(done.stderr.endswith(f"`tlsbroker {command} --help` says more.\n"))
        for arguments, why in ((("wrap", "--fd", "x", "cat"), '--fd "x": a number from 0 on is needed'),
                               (("exec", "--socket"), "--socket: a value is missing"),
                               (("exec", "--socket", "", "cat"), '--socket "": something is needed'),
                               (("wrap", "--socket", "x", "--alpn", "h2", "cat"), "--alpn and --certificate: --client is needed"),
                               (("connect", "a", "b", "c"), 'unexpected argument "c"'),
                               (("status", "x"), 'unexpected argument "x"')):
            done = run(*arguments)
            self.assertEqual(done.returncode, USAGE)
            self.assertIn(why, done.stderr)

    def test_bash_completes(self):
        def complete(*words):
            script = f'source {COMPLETION}bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tlsbroker; echo "${{COMPREPLY[*]}}"'
            return subprocess.run(["bash", "-c", script, "bash", TOOL, *words], capture_output=True, text=True, timeout=30,
                                  check=True).stdout.split()
        self.assertEqual(complete("st"), ["status"])
        self.assertEqual(complete(""), self.commands)
        self.assertEqual(complete("exec", "--max"), ["--max-connections", "--max-per-source"])
        self.assertEqual(complete("exec", "/bin/c"), [])

    @unittest.skipUnless(shutil.which("zsh"), "no zsh")
    def test_zsh_completes(self):
        """zsh's own functions for completion, which only work in a terminal, are replaced by some that print what they are given."""
        def complete(*words):
            script = (f'_describe() {{ print -rl -- "${{(@P)argv[-1]}}" }}; _files() {{ print files }}; '
                      f'words=("$@"); CURRENT=$#; source {COMPLETION}zsh')
            shown = subprocess.run(["zsh", "-fc", script, "zsh", TOOL, *words], capture_output=True, text=True, timeout=30, check=True)
            return dict(line.replace("\\:", "\t").split(":", 1) if ":" in line else (line, "") for line in shown.stdout.splitlines())
        self.assertEqual(list(complete("")), self.commands)
        self.assertEqual(complete("")["wrap"], "run a program behind TLS on the TCP connection that is stdin")
        self.assertEqual(list(complete("exec", "-")), completion("exec"))
        self.assertEqual(complete("exec", "/bin/c"), {"files": ""})


if __name__ == "__main__":
    unittest.main()
