# SPDX-License-Identifier: Apache-2.0
"""What is measured in guests that count instructions, on both kernels: tests/vm/boot --icount. The part for the host boots the
guest, the part for the guest measures; there a nanosecond is an instruction."""

import concurrent.futures

import guest
import native
import subjects

BARE = "bare kTLS"


def competitors(certificate):
    return [
        subjects.Plain("plain TCP", certificate),
        subjects.InProcess(BARE, certificate, "ktls"),
        subjects.InProcess("in-process OpenSSL", certificate, "openssl"),
        subjects.Broker("tlsbroker direct", certificate, "require"),
        subjects.Broker("tlsbroker bridge", certificate, "require", kind="exec"),
        subjects.Broker("tlsbroker relay", certificate, "never"),
        *subjects.proxies(certificate),
    ]


def counted(results, scale, running, title, kind, count, unit, per, baseline=BARE, **options):
    """Adds two results: the instructions of the servers, and those of everything, the client and the kernel included; both in
    `unit`."""
    def once(subject):
        if subject.plain and options.get("resumed"):
            return
        result = native.measured(subject, kind, count=count, **options)
        results.add(f"{title}: servers", unit, subject.name, result["cpu"] * per / count, baseline=baseline, digits=2)
        results.add(f"{title}: with the client", unit, subject.name, result["seconds"] * per / count, baseline=baseline,
                    digits=2)

    native.turns(results, title, running, scale.rounds, once)


def run_in_guest(results, scale, certificate):
    size = (8 << 20) if scale.quick else (64 << 20)
    with scale.running(competitors(certificate)) as running:
        for resumed in (False, True):
            counted(results, scale, running, f"{'resumed' if resumed else 'full'} handshake to the first byte", "handshake",
                    10 if scale.quick else 50, "1,000 instructions", 1e6, baseline="in-process OpenSSL", resumed=resumed)
        for message, label in ((1, "1 B"), (1024, "1 KiB")):
            counted(results, scale, running, f"round trip of {label}", "roundtrip", 200 if scale.quick else 1000,
                    "1,000 instructions", 1e6, size=message)
        for kind in ("send", "sendfile", "receive"):
            counted(results, scale, running, f"bulk {kind}", kind, size, "instructions/B", 1e9)


def run(results, scale, _certificate, wanted):
    """Measures both kernels side by side: the other guest does not change how many instructions are counted."""
    kernels = [kernel for kernel in ("6.1", "latest") if wanted(f"counted-{kernel}")]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for kernel, measured in pool.map(lambda kernel: (kernel, guest.measured(scale, "counted", kernel, "--icount")), kernels):
            results.merge(measured, f"{kernel}: ")
