# SPDX-License-Identifier: Apache-2.0
"""What is measured on the machine itself, which may have no kernel TLS: then tlsbroker relays."""

import json
import statistics
import time

import processes
import subjects
from subjects import Load

GIB = 1 << 30
OURS = "tlsbroker relay"


def quantile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


def native_subjects(certificate):
    """The competitors that every measurement compares."""
    return [
        subjects.Plain("plain TCP", certificate),
        subjects.InProcess("in-process OpenSSL", certificate, "openssl"),
        subjects.Broker(OURS, certificate, "never"),
        *subjects.proxies(certificate),
    ]


def turns(results, name, competitors, rounds, once):
    """Calls `once` for each competitor in turn, in so many rounds."""
    for number in range(rounds):
        for subject in competitors:
            once(subject)
        results.say(f"  {name}: round {number + 1} of {rounds}")
        results.write()


def measured(subject, kind, **options):
    """The result of one load, with the CPU time that the subject used meanwhile."""
    with Load(subject, kind, **options) as load:
        before = subjects.settle(subject)
        result = load.go()
        after = subjects.settle(subject)
    result = json.loads(result)
    result["cpu"] = after - before
    return result


def handshakes(results, scale, competitors):
    count = 300 if scale.quick else 2000
    for resumed in (False, True):
        kind = "resumed" if resumed else "full"

        def once(subject):
            if resumed and subject.plain:
                return
            result = measured(subject, "handshake", count=count, threads=4, resumed=resumed)
            if not subject.plain and result["counts"].get(kind, 0) < count:
                results.note(f"{subject.name}: only {result['counts']} of {count} were {kind}")
            results.add(f"{kind} handshake: CPU", "µs", subject.name, result["cpu"] / count * 1e6)
            results.add(f"{kind} handshakes per second", "/s", subject.name, count / result["seconds"], digits=0)

        turns(results, f"{kind} handshakes", competitors, scale.rounds, once)


def bulk(results, scale, competitors):
    count = (64 << 20) if scale.quick else (512 << 20)
    for kind in ("send", "receive"):
        def once(subject):
            result = measured(subject, kind, count=count)
            results.add(f"bulk {kind}: CPU", "s/GiB", subject.name, result["cpu"] * GIB / count, digits=3)

        turns(results, f"bulk {kind}", competitors, scale.rounds, once)


def roundtrips(results, scale, competitors):
    count = 2000 if scale.quick else 10000
    for size, label in ((1, "1 B"), (1024, "1 KiB")):
        def once(subject):
            result = measured(subject, "roundtrip", count=count, size=size)
            results.add(f"round trip of {label}: CPU", "µs", subject.name, result["cpu"] / count * 1e6, digits=2)
            results.add(f"round trip of {label}: p50", "µs", subject.name, quantile(result["times"], 0.5))

        turns(results, f"round trips of {label}", competitors, scale.rounds, once)


def tls_memory(subject):
    if isinstance(subject, subjects.Broker):
        return sum(processes.private_memory_of(pid) for pid in subject.tls_processes())
    return processes.private_memory(subject.roots)


def idle(results, scale, certificate):
    """Each round has fresh processes: a second one would reuse the memory that the first one has allocated."""
    count = 500 if scale.quick else 2000
    for number in range(scale.rounds):
        for subject in native_subjects(certificate):
            with subject:
                with Load(subject, "idle", count=20):
                    pass  # so that what the first connections load is loaded
                subjects.settle(subject)
                before, kernel = tls_memory(subject), processes.kernel_memory()
                with Load(subject, "idle", count=count):
                    subjects.settle(subject)
                    results.add("idle connection: user memory", "KiB", subject.name,
                                (tls_memory(subject) - before) / count / 1024)
                    results.add("idle connection: kernel memory, with the client's and the plain server's sockets", "KiB",
                                subject.name, (processes.kernel_memory() - kernel) / count / 1024)
        results.write()
        results.say(f"  idle connections: round {number + 1} of {scale.rounds}")


def exec_competitors(certificate, command):
    return [
        subjects.Broker("tlsbroker exec", certificate, "never", kind="exec", command=command),
        subjects.stunnel_exec(certificate, command),
        subjects.Inetd("tlswrapper", certificate, command),
    ]


def exec_mode(results, scale, certificate):
    count = 100 if scale.quick else 300

    def once(subject):
        result = measured(subject, "exec", count=count)
        results.add("exec of /bin/echo: CPU per connection", "ms", subject.name, result["cpu"] / count * 1e3,
                    baseline="stunnel4", digits=2)
        results.add("exec of /bin/echo: connect to first byte, p50", "ms", subject.name,
                    quantile(result["times"], 0.5) / 1e3, baseline="stunnel4", digits=2)
        ends.setdefault(subject.name, {}).update(result["counts"])

    ends = {}
    with scale.running(exec_competitors(certificate, ["/bin/echo", "hello"])) as competitors:
        turns(results, "exec", competitors, scale.rounds, once)
    for name, counts in ends.items():
        results.note(f"the end of /bin/echo, which succeeds, on the wire of {name}: {', '.join(counts)}")
    killed = ["/bin/sh", "-c", "echo a part; kill -9 $$"]
    with scale.running(exec_competitors(certificate, killed)) as competitors:
        for subject in competitors:
            counts = measured(subject, "exec", count=5)["counts"]
            results.note(f"the end of a program that is killed, on the wire of {subject.name}: {', '.join(counts)}")


def silent(results, scale, certificate):
    for count in (1000,) if scale.quick else (1000, 10000):
        for number in range(scale.rounds):
            with subjects.Broker(OURS, certificate, "never") as subject:
                measured(subject, "handshake", count=200)
                before = measured(subject, "handshake", count=300)["times"]
                with Load(subject, "silent", count=count):
                    time.sleep(0.5)
                    during = measured(subject, "handshake", count=300)["times"]
            for name, share in (("median", 0.5), ("p99", 0.99)):
                title = f"full handshake to first byte with {count:,} silent clients, {name}"
                results.add(title, "µs", "before", quantile(before, share), baseline="before")
                results.add(title, "µs", "with them", quantile(during, share), baseline="before")
            results.write()
            results.say(f"  {count} silent clients: round {number + 1} of {scale.rounds}")


def handoff(results, scale, certificate):
    """From just before the client sends its last handshake bytes to just after the worker has taken the connection: the
    handshaker and the worker each wake up in it, and OpenSSL checks Finished. The session ticket comes later."""
    count = 300 if scale.quick else 2000
    title = "last handshake byte to the worker"
    with subjects.Broker(OURS, certificate, "never") as subject:
        for number in range(scale.rounds):
            times = measured(subject, "handoff", count=count)["times"]
            results.add(f"{title}, median", "µs", OURS, statistics.median(times), baseline="")
            results.add(f"{title}, p99", "µs", OURS, quantile(times, 0.99), baseline="")
            results.distribute(title, "µs", times)
            results.say(f"  hand-off: round {number + 1} of {scale.rounds}")
            results.write()
    for line in results.histograms[title].lines():
        results.say("  " + line)


def run(results, scale, certificate, wanted):
    with scale.running(native_subjects(certificate)) as competitors:
        for name, measure in (("handshake", handshakes), ("bulk", bulk), ("roundtrip", roundtrips)):
            if wanted(name):
                measure(results, scale, competitors)
    for name, measure in (("idle", idle), ("exec", exec_mode), ("silent", silent), ("handoff", handoff)):
        if wanted(name):
            measure(results, scale, certificate)
