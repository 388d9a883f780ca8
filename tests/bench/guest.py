"""The parts that need kernel TLS: tests/vm/boot runs them in a guest, where in-guest beside this file measures."""

import json
import pathlib
import subprocess
import tempfile

import subjects

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 6000


def run(results, scale, part, kernel, prefix, *options):
    """Boots, measures and takes the results; `options` are those of tests/vm/boot."""
    with tempfile.TemporaryDirectory(prefix="tlsbroker-bench-") as out:
        subprocess.run(
            [HERE.parent / "vm/boot", "--kernel", kernel, "--smp", "1", *options, "--build", subjects.testlib.BUILD, "--mem", "3000",
             "--timeout", str(TIMEOUT), "--out", out, "--", HERE / "in-guest", part, str(int(scale.quick)), str(scale.rounds)],
            check=True)
        results.merge(json.loads((pathlib.Path(out) / "results.json").read_text(encoding="utf-8")), prefix)
