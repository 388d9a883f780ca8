# SPDX-License-Identifier: Apache-2.0
"""An established direct connection costs the broker nothing: 1,000 of them are compared with 4,000."""

import os
import resource
import socket
import ssl
import unittest

import broker as testlib
import echo_service

STEPS = (1000, 4000)


def memory(pid):
    """The private memory of a process, in kilobytes."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


class Growth(unittest.TestCase):
    def setUp(self):
        echo_service.require_ktls()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
        self.service = self.enterContext(echo_service.EchoService(
            {"echo": "require"}, holds=True))

    def open(self, count):
        """Opens `count` more connections, a quarter of them with TLS 1.3. All but the first are resumed; the client keeps only
        their sockets."""
        thirteen = count // 4
        self.open_with(ssl.TLSVersion.TLSv1_3, thirteen)
        self.open_with(ssl.TLSVersion.TLSv1_2, count - thirteen)  # resumed by symmetric cryptography alone

    def open_with(self, version, count):
        context = self.service.context(version)
        session = None
        for _ in range(count):
            raw = socket.create_connection(("127.0.0.1", self.service.ports["echo"]))
            with socket.socket(fileno=os.dup(raw.fileno())) as used:
                tls = context.wrap_socket(used, server_hostname="localhost", session=session,
                                          suppress_ragged_eofs=False)
                tls.settimeout(60 * testlib.PATIENCE)
                if session is None:
                    tls.recv(1)  # the tickets come with the worker's first byte
                    session = tls.session
                tls.detach()
            self.held.append(raw)

    def test_nothing_is_kept(self):
        self.held = []
        self.addCleanup(lambda: [raw.close() for raw in self.held])
        processes = [(role, pid) for role, pids in self.service.processes().items() if role != "worker" for pid in pids]
        seen = {}
        for step in STEPS:
            self.open(step - len(self.held))
            testlib.wait_until(lambda: sum(" mode=direct" in line for line in self.service.log) == step, "hand-offs", 60)
            testlib.wait_until(lambda: self.worker_fds() >= step, "the worker to hold them", 60)
            seen[step] = {pid: (len(os.listdir(f"/proc/{pid}/fd")), memory(pid)) for _, pid in processes}
        few, many = (seen[step] for step in STEPS)
        print(f"\n  {'process':<12} {'fds at':>7} {STEPS[0]} {STEPS[1]:>6}   KiB at {STEPS[0]} {STEPS[1]:>6}")
        for role, pid in processes:
            print(f"  {role:<12} {few[pid][0]:>12} {many[pid][0]:>6} {few[pid][1]:>13} {many[pid][1]:>6}")
            self.assertEqual(few[pid][0], many[pid][0], role)
            self.assertLess(many[pid][1] - few[pid][1], 256, role)

    def worker_fds(self):
        return len(os.listdir(f"/proc/{self.service.processes()['worker'][0]}/fd"))


if __name__ == "__main__":
    unittest.main()
