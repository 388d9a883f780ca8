# SPDX-License-Identifier: Apache-2.0
"""How the cost grows with what a broker is configured for and with what it holds."""

import re
import socket
import ssl
import time

import guest
import processes
import subjects
from subjects import Load

MORE_SERVICE = """
[service.more{number}]
listen = ["127.0.0.1:{port}"]
certificates = ["c"]
ktls = "never"
allow_users = ["root"]
{lines}
"""
MORE_CERTIFICATE = """
[certificate.more{number}]
chain = "{chain}"
key = "{key}"
"""


def memory_by_role(subject):
    return {role: sum(map(processes.private_memory_of, pids)) for role, pids in subject.broker.processes().items()}


def started(results, scale, title, make):
    """Starts the broker that `make` makes, and measures how long it takes to be ready, and its memory."""
    for _ in range(scale.rounds):
        subject = make()
        began = time.monotonic()
        with subject:
            results.add("growth: start to ready", "ms", title, (time.monotonic() - began) * 1e3, baseline="")
            for role, size in memory_by_role(subject).items():
                results.add(f"growth: memory of the {role}", "MiB", title, size / (1 << 20), baseline="", digits=2)
    results.say(f"  {title}")


def text_with(services, certificates, certificate, lines=""):
    """A configuration with so many services and certificates; every service has all certificates, and all services but the first
    have `lines`."""
    text = subjects.BROKER
    for number in range(certificates - 1):
        text += MORE_CERTIFICATE.format(number=number, chain=certificate.chain, key=certificate.key)
    names = ", ".join(['"c"'] + [f'"more{number}"' for number in range(certificates - 1)])
    text = text.replace('certificates = ["c"]', f"certificates = [{names}]")
    for number in range(services - 1):
        text += MORE_SERVICE.format(number=number, port=subjects.testlib.free_port(), lines=lines)
    return text


def relayed_connections(results, scale, certificate):
    for count in (1, 100, 1000 if scale.quick else 10000):
        with subjects.Broker("tlsbroker", certificate, "never") as subject:
            with Load(subject, "idle", count=count):
                subjects.settle(subject)
                title = f"{count:,} relayed connections"
                for role, size in memory_by_role(subject).items():
                    results.add(f"growth: memory of the {role}", "MiB", title, size / (1 << 20), baseline="", digits=2)
        results.say(f"  {title}")


def direct_connections(results, scale, certificate):
    """What the broker itself keeps for connections that the kernel has taken over and a worker holds: the difference between many
    and few of them, so that what the broker allocates once does not count."""
    few, many = (100, 1000) if scale.quick else (1000, 10000)
    title = f"growth: direct connections, {few:,} to {many:,}"
    with subjects.Broker("tlsbroker", certificate, "require") as subject:

        def kept():
            subjects.settle(subject)
            descriptors = {role: processes.descriptors_of(pids) for role, pids in subject.broker.processes().items()}
            return memory_by_role(subject), descriptors

        with Load(subject, "idle", count=few):
            memory, descriptors = kept()
            results.say(f"  {few:,} direct connections")
            with Load(subject, "idle", count=many - few):
                memory_then, descriptors_then = kept()
                results.say(f"  {many:,} direct connections")
    for role in memory:
        results.add(f"{title}: memory for each", "B", role, (memory_then[role] - memory[role]) / (many - few), baseline="", digits=2)
        results.add(f"{title}: descriptors for each", "", role, (descriptors_then[role] - descriptors[role]) / (many - few),
                    baseline="", digits=4)


def configured(results, scale, certificate):
    for title, services, certificates, handshakers in (
            ("1 service, 1 certificate, 1 handshaker", 1, 1, 1), ("2 handshakers", 1, 1, 2),
            ("100 services, 2 handshakers", 100, 1, 2), ("1,000 certificates, 2 handshakers", 1, 1000, 2)):
        text = text_with(services, certificates, certificate)
        started(results, scale, title, lambda text=text, handshakers=handshakers: subjects.Broker(
            "tlsbroker", certificate, "never", handshakers=handshakers, text=text))


def at_rest(results, scale, certificate):
    """100 services that nobody uses, and the first connection to some services that start on demand."""
    count = 100
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for start in ("always", "on-demand"):
        for _ in range(scale.rounds):
            text = text_with(count + 1, 1, certificate, f'start = "{start}"')
            ports = re.findall(r'"127.0.0.1:(\d+)"', text)
            subject = subjects.Broker("tlsbroker", certificate, "never", text=text)
            began = time.monotonic()
            with subject:
                results.add(f"growth: start to ready of {count} services", "ms", start, (time.monotonic() - began) * 1e3, baseline="")
                subjects.settle(subject)
                memory = dict.fromkeys(("handshaker", "keyholder", "porter"), 0)
                for process in subject.broker.status()["processes"]:
                    if (process["service"] or "").startswith("more"):
                        memory[process["role"].partition("[")[0]] += processes.private_memory_of(process["pid"])
                for role, size in memory.items():
                    results.add(f"growth: memory for each of {count} services, {role}", "MiB", start, size / count / (1 << 20),
                                baseline="", digits=2)
                for port in ports[-20:] if start == "on-demand" else ():
                    began = time.monotonic()
                    with socket.create_connection(("127.0.0.1", int(port))) as connection, context.wrap_socket(connection):
                        results.add("growth: first connection, on demand", "ms", "handshake", (time.monotonic() - began) * 1e3,
                                    baseline="")
        results.say(f"  {count} services, {start}")


def run(results, scale, certificate, wanted):
    if wanted("growth-direct"):
        results.merge(guest.measured(scale, "growth-direct", "latest"), "")
    for name, measure in (("configured", configured), ("services", at_rest), ("relayed", relayed_connections)):
        if wanted(f"growth-{name}"):
            measure(results, scale, certificate)
