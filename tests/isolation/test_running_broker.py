# SPDX-License-Identifier: Apache-2.0
"""A running broker, as the kernel sees it: each process has given up what the privilege table says it has given up."""

import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import broker as testlib
import takeover

USER = 61234  # a user who has nothing else
NO_CAPABILITIES = "0" * 16
# Numbers of what the supervisor keeps of root (broker/README.md, "What is left of root"):
# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_ADMIN,
# IPC_LOCK, SYS_CHROOT, SYS_ADMIN, SYS_RESOURCE.
SUPERVISOR = sum(1 << number for number in (0, 1, 2, 5, 6, 7, 8, 10, 12, 14, 18, 21, 24))
CONFIGURATION = """
[broker]
runtime_dir = "{{runtime_dir}}"
user = "nobody"
[certificate.it]
chain = "{certificate.chain}"
key = "{certificate.key}"
[service.it]
listen = ["127.0.0.1:{port}"]
certificates = ["it"]
[service.it.worker]
command = ["{directory}/worker"]
user = "daemon"
"""


def status(pid):
    """/proc/PID/status as a dictionary."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {name: " ".join(value.split()) for name, value in (line.split(":", 1) for line in file)}


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def descriptors(pid):
    """{number: kind}, the kind as in /proc but without inode numbers."""
    return {fd: link.split(":")[0] for fd, link in takeover.links(pid).items()}


def count_of(pid, kind):
    """How many descriptors of this kind the process has, without those for the log."""
    return [its for fd, its in descriptors(pid).items() if fd > 2].count(kind)


class RunningBroker(unittest.TestCase):
    user = None  # who starts the broker

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="tlsbroker-running-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        shutil.copy(f"{testlib.SOURCE}/tests/testlib/answering_worker.py", f"{self.directory}/worker")
        certificate = testlib.Certificate(self.directory)
        if self.user is not None:
            os.chown(certificate.key, self.user, self.user)
        port = testlib.free_port()
        config = CONFIGURATION.format(certificate=certificate, port=port, directory=self.directory)
        self.broker = testlib.Broker(config, user=self.user)
        self.enterContext(self.broker)
        with testlib.tls_connect(port, testlib.tls_context(certificate)) as connection:
            connection.sendall(b"hello?\n")
            self.assertEqual(connection.recv(100), b"hello\n")
        testlib.wait_until(lambda: all(p["state"] == "serving" for p in self.broker.status()["processes"]), "all that serve")
        self.processes = self.broker.processes()

    def each(self, *roles):
        """(role, pid) of every process of these roles."""
        for role in roles:
            self.assertTrue(self.processes.get(role), f"no {role} runs")
        return [(role, pid) for role in roles for pid in self.processes[role]]

    def assert_confined(self):
        for role, pid in self.each("keyholder", "handshaker", "logger", "porter", "worker"):
            with self.subTest(role=role, pid=pid):
                state = status(pid)
                for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                    self.assertEqual(state[name], NO_CAPABILITIES, name)
                self.assertEqual(state["NoNewPrivs"], "1")
                self.assertEqual(state["Seccomp"], "2")
                self.assertEqual(state["Threads"], "1", "filters apply thread by thread")

    def assert_few_descriptors(self):
        """The worker has its queue and its socket for requests. Keyholder and handshakers have their channels, listeners and
        their event loop. None has anything of the file system; only handshakers have an empty file in memory, which they lock."""
        for role, pid in self.each("worker"):
            with self.subTest(role=role, pid=pid):
                # Until then the worker may still have the connection of setUp.
                testlib.wait_until(lambda pid=pid: set(descriptors(pid)) == {0, 1, 2, 3, 4},
                                   "worker with its queue only")
                self.assertEqual(descriptors(pid)[3], "socket")
        for role, pid in self.each("keyholder", "handshaker"):
            with self.subTest(role=role, pid=pid):
                # Keyholder: control; two pipes for each handshaker. Handshaker: control, one service's queue and its workers'
                # requests, one listener; the two pipes, and a copy of one of them for the event loop. Both: an eventfd that
                # announces reports.
                keyholder = role == "keyholder"
                sockets, pipes = (1, 2 * len(self.processes["handshaker"])) if keyholder else (4, 3)
                # A handshaker may still relay the connection of setUp.
                testlib.wait_until(lambda pid=pid, sockets=sockets: count_of(pid, "socket") <= sockets,
                                   f"{role} with no connection")
                kinds = descriptors(pid)
                standard = {kinds.pop(number) for number in (0, 1, 2)}
                self.assertLessEqual(standard, {"/dev/null", "pipe"})
                memory = {"/memfd"} if role == "handshaker" else set()
                self.assertEqual(set(kinds.values()), {"socket", "pipe", "anon_inode"} | memory)
                self.assertEqual((count_of(pid, "socket"), count_of(pid, "pipe")), (sockets, pipes))
        for role, pid in self.each("porter"):
            with self.subTest(role=role, pid=pid):
                # The porter of the status socket has: control, the listening socket, a pidfd of the supervisor to give away, and
                # the eventfd for reports.
                self.assertEqual(sorted(kind.strip("[]") for kind in list(descriptors(pid).values())[3:]),
                                 sorted(["socket", "anon_inode", "anon_inode", "socket"]))
        for role, pid in self.each("logger"):
            with self.subTest(role=role, pid=pid):
                kinds = descriptors(pid)
                self.assertEqual([kinds.pop(number).strip("[]") for number in (0, 1, 3, 4)],
                                 ["/dev/null", "/dev/null", "socket", "anon_inode"])
                self.assertEqual(set(kinds.values()), {"pipe"})

    def assert_standard_error_is_the_loggers(self):
        """Of the processes below the supervisor only one logger has the broker's standard error, and no two processes write into
        the same pipe."""
        ours = os.readlink(f"/proc/{self.broker.process.pid}/fd/2")
        have = [pid for _, pid in self.each("keyholder", "handshaker", "logger", "porter", "worker")
                if ours in takeover.links(pid).values()]
        self.assertEqual(len(have), 1)
        self.assertIn(have[0], self.processes["logger"])
        writing = [os.readlink(f"/proc/{pid}/fd/2") for _, pid in self.each("keyholder", "handshaker", "logger", "porter", "worker")]
        self.assertEqual(len(set(writing)), len(writing))


class ByHand(unittest.TestCase):
    def test_programs_of_the_broker_refuse(self):
        for name in ("keyholder", "handshaker", "logger", "porter"):
            program = testlib.program(f"broker/{name}/tlsbroker-{name}")
            done = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  timeout=30 * testlib.PATIENCE, check=False)
            self.assertEqual(done.returncode, 2, name)
            self.assertIn(b"is started by tlsbrokerd(8)", done.stderr)

    def test_a_channel_of_somebody_else_is_refused(self):
        """A socket of the right kind that was not made by the parent process."""
        for name in ("keyholder", "handshaker", "logger", "porter"):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            program = testlib.program(f"broker/{name}/tlsbroker-{name}")
            reading, writing = os.pipe()
            # The parent of the program is the shell.
            shell = f"exec 3<&{theirs.fileno()} 4>&{writing}; {program} </dev/null >/dev/null; exit $?"
            with ours, theirs, open(reading, "rb"), open(writing, "wb"):
                done = subprocess.run(["/bin/sh", "-c", shell], pass_fds=[theirs.fileno(), writing], stderr=subprocess.PIPE,
                                      timeout=30 * testlib.PATIENCE, check=False)
            self.assertEqual(done.returncode, 2, name)


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class ByRoot(RunningBroker):
    def test_confined(self):
        self.assert_confined()
        self.assert_few_descriptors()
        self.assert_standard_error_is_the_loggers()

    def test_supervisor_capabilities(self):
        state = status(self.broker.process.pid)
        for name in ("CapPrm", "CapEff", "CapBnd"):
            self.assertEqual(int(state[name], 16) & ~SUPERVISOR, 0, name)
        for name in ("CapInh", "CapAmb"):
            self.assertEqual(state[name], NO_CAPABILITIES, name)
        self.assertEqual(os.stat(f"/proc/{self.broker.process.pid}/mem").st_uid, 0)

    def test_own_users(self):
        for role, pid in self.each("keyholder", "handshaker", "logger", "porter", "worker"):
            with self.subTest(role=role, pid=pid):
                state = status(pid)
                self.assertNotIn("0", state["Uid"].split())
                self.assertEqual(state["Groups"], "")
                self.assertEqual(state["CapBnd"], NO_CAPABILITIES)
        worker, holder = self.processes["worker"][0], self.processes["keyholder"][0]
        self.assertNotEqual(status(worker)["Uid"], status(holder)["Uid"])

    def test_empty_root_and_own_namespaces(self):
        for role, pid in self.each("keyholder", "handshaker", "logger", "porter"):
            with self.subTest(role=role, pid=pid):
                self.assertEqual(os.listdir(f"/proc/{pid}/root"), [])
                for kind in ("mnt", "ipc"):
                    self.assertNotEqual(namespace(pid, kind), namespace("self", kind))
        for role, pid in self.each("keyholder", "logger", "porter", "worker"):
            with self.subTest(role=role, pid=pid):
                self.assertNotEqual(namespace(pid, "net"), namespace("self", "net"))

    def test_memory_is_out_of_reach(self):
        for role, pid in self.each("keyholder", "handshaker", "logger", "porter"):
            with self.subTest(role=role, pid=pid):
                self.assertEqual(os.stat(f"/proc/{pid}/mem").st_uid, 0, "not dumpable: root's")
                with open(f"/proc/{pid}/limits", encoding="ascii") as file:
                    self.assertRegex(file.read(), r"Max core file size +0 +0")


@unittest.skipUnless(os.geteuid() == 0, "needs root to become a user")
class ByUser(RunningBroker):
    user = USER

    def setUp(self):
        daemon = testlib.program("broker/supervisor/tlsbrokerd")
        if subprocess.run(["test", "-x", daemon], user=USER, check=False, timeout=10).returncode:
            self.skipTest("the build directory is closed to other users")
        super().setUp()

    def test_confined(self):
        self.assert_confined()
        self.assert_few_descriptors()
        for role in ("keyholder", "handshaker", "logger", "porter", "worker"):
            self.broker.wait_for_log(rf"{role} .*without: a user of its own \(not root\)")


del RunningBroker  # only its two kinds are tests
