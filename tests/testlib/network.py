# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, for tests that need addresses and cables of their own. Needs root."""

import ctypes
import os
import subprocess
import threading

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def inside(pid, function):
    """Calls the function in the network namespace of that process; a thread has one of its own."""
    results = []

    def run():
        with open(f"/proc/{pid}/ns/net", "rb") as namespace:
            check(libc.setns(namespace.fileno(), CLONE_NEWNET))
        results.append(function())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]
