# SPDX-License-Identifier: Apache-2.0
"""The parts that need kernel TLS: tests/vm/boot runs them in a guest, where in-guest beside this file measures."""

import json
import pathlib
import subprocess
import tempfile

import subjects

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 6000


def measured(scale, part, kernel, *options):
    """Boots a guest and measures there; `options` are those of tests/vm/boot. The kernel's name stands in front of what the guest
    says."""
    with tempfile.TemporaryDirectory(prefix="tlsbroker-bench-") as out:
        # The guest ends when this process ends, however that ends.
        command = ["setpriv", "--pdeathsig", "TERM", "--", HERE.parent / "vm/boot", "--kernel", kernel, "--smp", "1", *options, "--build", subjects.testlib.BUILD,
                   "--mem", "3000", "--timeout", str(TIMEOUT), "--out", out, "--",
                   HERE / "in-guest", part, str(int(scale.quick)), str(scale.rounds), scale.before or ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as guest:
            for line in guest.stdout:
                print(f"{kernel}: {line}", end="", flush=True)
        if guest.returncode:
            raise subprocess.CalledProcessError(guest.returncode, command)
        return json.loads((pathlib.Path(out) / "results.json").read_text(encoding="utf-8"))
