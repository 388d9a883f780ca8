#!/usr/bin/env python3
"""Runs the test_*.py of one folder (not of those below it) and counts.

Usage: run_suite.py FOLDER [PATTERN]

The last line is "N passed, N failed, N skipped". Exit status 0, 1 if a test failed, 77 if all were
skipped. Where TLSBROKER_EXPECT says what the machine must be able to do, a skip is a failure.
"""

import os
import sys
import time
import unittest


class Result(unittest.TextTestResult):
    """Counts what ran, and says how long it took; a subtest that fails counts for its test."""

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


def main():
    folder = os.path.abspath(sys.argv[1])
    pattern = sys.argv[2] if len(sys.argv) > 2 else "test_*.py"
    testlib = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [folder, testlib]
    names = sorted(n for n in os.listdir(folder) if n.startswith("test_") and n.endswith(".py"))
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for name in names:
        if pattern != "test_*.py" and pattern not in name:
            continue
        suite.addTests(loader.loadTestsFromName(name[:-3]))
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Result)
    result = runner.run(suite)
    failed = len({id(t) for t, _ in result.failures + result.errors}) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    if os.environ.get("TLSBROKER_EXPECT") and skipped:
        for test, why in result.skipped:
            print(f"FAILED: {test} was skipped although this machine must be able to run it: {why}")
        failed, skipped = failed + skipped, 0
    if not result.testsRun:
        print(f"FAILED: no test in {folder} is named after {pattern}")
        failed += 1
    print(f"{result.passed} passed, {failed} failed, {skipped} skipped", flush=True)
    if failed:
        return 1
    return 77 if skipped and not result.passed else 0


if __name__ == "__main__":
    sys.exit(main())
