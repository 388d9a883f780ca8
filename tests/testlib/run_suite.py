#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the test_*.py of one folder (not of those below it) and counts.

Usage: run_suite.py [--jobs N] FOLDER [PART-OF-NAME]

With --jobs that many files run at once, since most tests wait most of the time; the output of each file is printed when it has
ended. A file that says ALONE = True is run after all others. The last line is "N passed, N failed, N skipped". The exit status is
0, 1 if a test failed, 77 if all were skipped. Where TLSBROKER_EXPECT says what the machine must be able to do, a skip is a
failure.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time
import unittest

FAILURES = []  # what failing files printed; it is printed at the end, where people look first


class Result(unittest.TextTestResult):
    """Counts the tests that passed, and prints how long each took; a subtest that fails counts as a failure of its test."""

    passed = 0

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f"  {time.monotonic() - self.started:.1f} s")

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def report(passed, failed, skipped):
    """Prints the last line; returns the exit status."""
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    if failed:
        return 1
    return 77 if skipped and not passed else 0


def run(suite):
    """Runs the tests in this process."""
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result).run(suite)
    failed = len({id(t) for t, _ in result.failures + result.errors}) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    if os.environ.get("TLSBROKER_EXPECT") and skipped:
        for test, why in result.skipped:
            print(f"FAILED: {test} was skipped although this machine must be able to run it: {why}")
        failed, skipped = failed + skipped, 0
    return report(result.passed, failed, skipped)


def run_file(folder, name, job, jobs):
    """Runs a file in a process of its own, whose ports differ from those of the other jobs; returns what it counted."""
    done = subprocess.run([sys.executable, __file__, folder, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          env={**os.environ, "TLSBROKER_TEST_JOB": f"{job}/{jobs}"})
    output, _, last = done.stdout.removesuffix("\n").rpartition("\n")
    counts = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", last)
    if done.returncode in (0, 77):
        print(f"== {name}\n{output}", flush=True)  # without its last line: there is one for all files
    else:
        FAILURES.append(f"== {name}\n{output if counts else done.stdout}")
    if not counts:
        print(f"FAILED: {name} ended with status {done.returncode} and no count")
        return 0, 1, 0
    return tuple(map(int, counts.groups()))


def run_files(folder, suites, jobs):
    """Runs the largest files first, so that in the end no large file runs alone while the other jobs have nothing to do."""
    names = sorted(suites, key=lambda name: -suites[name].countTestCases())
    alone = [name for name in names if getattr(sys.modules[name.removesuffix(".py")], "ALONE", False)]
    together = iter([name for name in names if name not in alone])

    def work(job):
        return [run_file(folder, name, job, jobs) for name in together]

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        counts = [count for each in pool.map(work, range(jobs)) for count in each]
    counts += [run_file(folder, name, 0, 1) for name in alone]
    print(*FAILURES, sep="\n")
    return report(*map(sum, zip(*counts)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="files at once (1)")
    parser.add_argument("folder")
    parser.add_argument("part", nargs="?", default="")
    arguments = parser.parse_args()
    folder = os.path.abspath(arguments.folder)
    sys.path[:0] = [folder, os.path.dirname(os.path.abspath(__file__))]
    names = sorted(n for n in os.listdir(folder) if n.startswith("test_") and n.endswith(".py") and arguments.part in n)
    loader = unittest.TestLoader()
    suites = {name: loader.loadTestsFromName(name[:-3]) for name in names}
    if not sum(suite.countTestCases() for suite in suites.values()):
        print(f"FAILED: no test in {folder} is named after {arguments.part or 'test_*.py'}")
        return report(0, 1, 0)
    if arguments.jobs > 1 and len(names) > 1:
        return run_files(folder, suites, arguments.jobs)
    return run(unittest.TestSuite(suites.values()))


if __name__ == "__main__":
    sys.exit(main())
