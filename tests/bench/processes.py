# SPDX-License-Identifier: Apache-2.0
"""What processes have used: CPU time and memory, of whole process trees."""

import os
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid):
    """The process and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            pass  # it has ended
    return found


def cpu_of(pid):
    """Seconds of CPU time that a process has used, in user mode and in the kernel, with children that were waited for."""
    try:
        # clock_getcpuclockid(3): it counts nanoseconds, whereas /proc counts ticks.
        own = time.clock_gettime((~pid << 3) | 2)
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return own + (int(fields[13]) + int(fields[14])) * TICK


def cpu(pids):
    return sum(cpu_of(pid) for root in pids for pid in tree(root))


def private_memory_of(pid):
    """Bytes that would be free if this process ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) * 1024
    except OSError:
        return 0


def private_memory(pids):
    """The same for whole trees."""
    return sum(private_memory_of(pid) for root in pids for pid in tree(root))


def descriptors_of(pids):
    """How many descriptors these processes have open."""
    total = 0
    for pid in pids:
        try:
            total += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            pass  # it has ended
    return total


def kernel_memory():
    """Bytes of memory of the whole machine's kernel that grow with processes and sockets."""
    with open("/proc/meminfo", encoding="ascii") as file:
        values = dict(line.split(":") for line in file)
    return sum(int(values[name].split()[0]) for name in ("Slab", "KernelStack", "PageTables")) * 1024
