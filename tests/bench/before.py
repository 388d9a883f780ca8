# SPDX-License-Identifier: Apache-2.0
"""What a handshake costs with this build and with an earlier one, measured in turn: tests/bench/run --before DIR. It is measured
on this machine, and counted in guests on both kernels."""

import concurrent.futures

import counted
import guest
import native
import subjects

BEFORE, NOW = "before", "now"
MODES = {"direct": "require", "relay": "never"}


def both(scale, certificate, ktls):
    return [subjects.Broker(BEFORE, certificate, ktls, build=scale.before), subjects.Broker(NOW, certificate, ktls)]


def run_natively(results, scale, certificate):
    """At full load: there are enough clients to have the broker start all the handshakers that it may, and these have started."""
    count = 2000 if scale.quick else 8000
    with scale.running(both(scale, certificate, "never")) as running:
        for resumed in (False, True):
            kind = "resumed" if resumed else "full"
            options = {"threads": 8, "resumed": resumed}

            def once(subject):
                native.measured(subject, "handshake", count=count // 2, **options)
                result = native.measured(subject, "handshake", count=count, **options)
                results.add(f"relay: {kind} handshake: CPU", "µs", subject.name, result["cpu"] / count * 1e6, baseline=BEFORE)
                results.add(f"relay: {kind} handshakes per second", "/s", subject.name, count / result["seconds"],
                            baseline=BEFORE, digits=0)

            native.turns(results, f"{kind} handshakes", running, scale.rounds, once)


def run_in_guest(results, scale, certificate):
    for mode, ktls in MODES.items():
        with scale.running(both(scale, certificate, ktls)) as running:
            for resumed in (False, True):
                counted.counted(results, scale, running, f"{mode}: {'resumed' if resumed else 'full'} handshake", "handshake",
                                10 if scale.quick else 50, "1,000 instructions", 1e6, baseline=BEFORE, resumed=resumed)


def run(results, scale, certificate, wanted):
    if not scale.before:
        return
    kernels = [kernel for kernel in ("6.1", "latest") if wanted(f"before-{kernel}")]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for kernel, measured in pool.map(lambda kernel: (kernel, guest.measured(scale, "before", kernel, "--icount")), kernels):
            results.merge(measured, f"{kernel}: ")
    if wanted("before-native"):
        run_natively(results, scale, certificate)
