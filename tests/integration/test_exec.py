# SPDX-License-Identifier: Apache-2.0
"""Programs that know standard input and output, one process for each connection. They are Debian's own."""

import concurrent.futures
import hashlib
import os
import random
import re
import signal
import ssl
import subprocess
import tempfile
import textwrap
import time
import unittest

import broker as testlib
from exec_service import ExecService
from memory_client import Client

MIB = 2**20
VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
READ_LOOP = 'while read -r line; do echo "<$line>"; done'
PYTHON = "import sys\nfor line in sys.stdin: print(line[::-1].strip(), flush=True)"
# As many pages as the kernel takes from a pipe at once, of which the last one is not full.
PROMPT_SIZE = 15 * os.sysconf("SC_PAGESIZE") + 100
PROMPT = f"import os; os.write(1, b'x' * {PROMPT_SIZE}); os.write(1, os.read(0, 100))"
# Prints how much the pipe of its output holds, before this pipe has been full and after.
PIPE = """import fcntl, os
def tell(): os.write(1, b'%d ' % fcntl.fcntl(1, 1032))  # F_GETPIPE_SZ
tell()
os.write(1, b'x' * 1000000 + b' ')
tell()"""
PROGRAMS = {
    "cat": ["/bin/cat"],
    "sort": ["/usr/bin/sort", "-S", "400M"],
    "bc": ["/usr/bin/bc", "-lq"],
    "wc": ["/bin/busybox", "wc"],
    "sh": ["/bin/sh", "-c", READ_LOOP],
    "perl": ["/usr/bin/perl", "-pe", "$_ = uc"],
    "python": ["/usr/bin/python3", "-c", PYTHON],
    "prompt": ["/usr/bin/python3", "-c", PROMPT],
    "pipe": ["/usr/bin/python3", "-c", PIPE],
    "httpd": ["/bin/busybox", "httpd", "-i", "-h", "{home}"],
    "env": ["/usr/bin/env"],
    "fail": ["/bin/sh", "-c", "echo partly; echo why >&2; exit 3"],
    "killed": ["/bin/sh", "-c", "echo partly; kill -9 $$"],
    "missing-part": ["/bin/sh", "-c", "cat; sleep 1000 & exit 0"],
    "group": ["/bin/sh", "-c", 'sleep 1000 & echo $$ $!; cat; wait'],
    "stubborn": ["/bin/sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done"],
    "first": ["/usr/bin/head", "-n1"],
    "descriptors": ["/bin/sh", "-c", "ls -l /proc/self/fd; cat /proc/self/status"],
    "errors": ["/bin/sh", "-c", r"printf 'one\ntwo \033[1m\n' >&2; printf three >&2"],
}
LINES = {"httpd": 'read_only = ["{home}"]', "stubborn": 'connections = {grace = "500ms"}',
         "group": 'connections = {grace = "2s"}', "descriptors": 'read_only = ["/proc"]'}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Exec(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = cls.enterClassContext(ExecService(PROGRAMS, lines=LINES))

    def tearDown(self):
        # No process was killed, for example by its filter.
        self.assertNotIn("the process of a connection was killed", self.service.log_text())

    def client(self, name, version=None):
        return self.enterContext(Client(self.service, version, name))

    def test_filters(self):
        lines = b"".join(b"%d + %d\n" % (i, i) for i in range(1000))
        expected = {
            "cat": lines,
            "bc": b"".join(b"%d\n" % (2 * i) for i in range(1000)),
            "sort": b"".join(sorted(lines.splitlines(True))),
            "wc": b"     1000      3000 %9d\n" % len(lines),
            "sh": b"".join(b"<%d + %d>\n" % (i, i) for i in range(1000)),
            "perl": lines.upper(),
            "python": b"".join(line[::-1].strip() + b"\n" for line in lines.splitlines()),
            "first": b"0 + 0\n",
        }
        for name, answer in expected.items():
            for version in VERSIONS:
                with self.subTest(program=name, version=version.name):
                    got = self.service.talk(name, lines, version)
                    self.assertEqual(got.split() if name == "wc" else got, answer.split() if name == "wc" else answer)

    def test_half_close_and_64_mib(self):
        size = 64 * MIB
        data = random.Random(1).randbytes(MIB) * (size // MIB)
        lines = [b"%01023d\n" % (i ^ 0x2aaa) for i in range(size // 1024)]
        for name, sent, answer in (("cat", data, data), ("sort", b"".join(lines), b"".join(sorted(lines)))):
            with self.subTest(program=name):
                got = self.service.talk(name, sent)
                self.assertEqual(len(got), len(answer))
                self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(answer).digest())

    def test_a_full_pipe_becomes_larger(self):
        before, text, after = self.service.talk("pipe", b"").split()
        self.assertEqual((before, len(text), after), (b"65536", 1000000, b"262144"))

    def test_a_program_that_speaks_first(self):
        """All of a long prompt arrives before the program has got an answer."""
        for version in VERSIONS:
            with self.subTest(version=version.name):
                client = self.client("prompt", version)
                received = 0
                while received < PROMPT_SIZE:
                    received += len(client.receive())
                client.send(b"answer")
                answer = b""
                while piece := client.receive():
                    answer += piece
                self.assertEqual(answer, b"answer", "in one record or several")

    def test_http(self):
        with open(os.path.join(self.service.home, "page.html"), "w", encoding="ascii") as file:
            file.write("hello\n" * 20000)
        done = subprocess.run(
            ["curl", "-sS", "--cacert", self.service.certificate.chain,
             f"https://localhost:{self.service.ports['httpd']}/page.html"],
            capture_output=True, timeout=60 * testlib.PATIENCE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout, b"hello\n" * 20000)

    def test_s_client_and_gnutls_see_a_clean_end(self):
        port = self.service.ports["bc"]
        done = subprocess.run(["openssl", "s_client", "-quiet", "-CAfile", self.service.certificate.chain, "-connect",
                               f"127.0.0.1:{port}"], input=b"6*7\nquit\n", capture_output=True,
                              timeout=60 * testlib.PATIENCE, check=False)
        self.assertIn(b"42\n", done.stdout)
        self.assertNotIn(b"unexpected eof", done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_failed_program_is_an_error_for_the_client(self):
        for name in ("fail", "killed"):
            for version in VERSIONS:
                with self.subTest(program=name, version=version.name):
                    client = self.client(name, version)
                    with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                        while client.receive():
                            pass
        self.service.wait_for_log(r"exec: ended conn=\w+ exit=3 in=0 out=7")
        self.service.wait_for_log(r"ended conn=\w+ signal=9")

    def test_curl_reports_a_killed_program(self):
        port = self.service.ports["killed"]
        done = subprocess.run(["curl", "-sS", "--http0.9", "--cacert", self.service.certificate.chain,
                               f"https://localhost:{port}/"], capture_output=True,
                              timeout=60 * testlib.PATIENCE, check=False)
        self.assertNotEqual(done.returncode, 0)

    def test_environment(self):
        with self.service.connect("env", ssl.TLSVersion.TLSv1_3) as tls:
            address, port = tls.getsockname()
            text = tls.makefile("rb").read().decode()
        variables = dict(line.split("=", 1) for line in text.splitlines())
        connection = variables.pop("TLSBROKER_CONNECTION")
        self.assertRegex(connection, "^[0-9a-f]{32}$")
        self.service.wait_for_log(f"connection conn={connection} .*service=env")
        del variables["PATH"]
        cipher = variables.pop("SSL_CIPHER")
        self.assertRegex(cipher, "^TLS_")
        self.assertEqual(variables, {
            "PROTO": "TCP", "TCPLOCALIP": "127.0.0.1", "TCPLOCALPORT": str(self.service.ports["env"]),
            "TCPREMOTEIP": address, "TCPREMOTEPORT": str(port), "REMOTE_ADDR": address, "REMOTE_PORT": str(port),
            "SSL_PROTOCOL": "TLSv1.3", "SSL_TLS_SNI_SERVERNAME": "localhost", "TLSBROKER_SERVICE": "env"})

    def test_descriptors_and_signals(self):
        text = self.service.talk("descriptors").decode()
        numbers = re.findall(r" (\d+) -> (\S+)", text)
        self.assertEqual([number for number, _ in numbers][:4], ["0", "1", "2", "3"])  # 3 is the directory
        self.assertEqual([kind.split(":")[0] for _, kind in numbers[:3]], ["pipe"] * 3)
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", text, re.MULTILINE))
        self.assertEqual(int(fields["SigBlk"], 16), 0)
        self.assertEqual(int(fields["SigIgn"], 16), 0)
        self.assertEqual(fields["NoNewPrivs"], "1")
        self.assertEqual(fields["Seccomp"], "2")

    def test_the_process_of_a_connection_has_a_filter_of_its_own(self):
        """Once the program of a connection runs, the connection's process has one filter more than the process that takes
        connections."""
        def filters(pid):
            with open(f"/proc/{pid}/status", encoding="ascii") as file:
                return int(re.search(r"^Seccomp_filters:\s+(\d+)$", file.read(), re.MULTILINE)[1])

        client = self.client("stubborn")
        leader = int(client.receive())
        with open(f"/proc/{leader}/status", encoding="ascii") as file:
            session = int(re.search(r"^PPid:\s+(\d+)$", file.read(), re.MULTILINE)[1])
        with open(f"/proc/{session}/status", encoding="ascii") as file:
            dispatcher = int(re.search(r"^PPid:\s+(\d+)$", file.read(), re.MULTILINE)[1])
        self.assertEqual(filters(leader), filters(dispatcher), "the program's are the worker's")
        testlib.wait_until(lambda: filters(session) == filters(dispatcher) + 1, "filter of the connection's process")
        client.raw.close()
        testlib.wait_until(lambda: not alive(leader), "end of the program")

    def test_standard_error_is_in_the_log(self):
        self.assertEqual(self.service.talk("errors"), b"")
        self.service.wait_for_log(r"exec: stderr conn=\w{32} text=one$")
        self.service.wait_for_log(r'stderr conn=\w{32} text="two \\x1b\[1m"')
        self.service.wait_for_log(r"stderr conn=\w{32} text=three")

    def test_a_cut_inside_a_record(self):
        """The program gets SIGTERM and never an end of its input, since what it has is not everything."""
        client = self.client("group")
        client.send(b"")
        leader, child = map(int, client.receive().split())
        client.tls.write(b"x" * 10000)
        client.raw.sendall(client.outgoing.read()[:5000])
        client.raw.close()
        testlib.wait_until(lambda: not alive(leader) and not alive(child), "end of the program's group")
        self.service.wait_for_log(r'the client is gone conn=\w+ why="The stream was cut off')

    def test_part_of_a_record_costs_nothing(self):
        """Linux 6.1 shows the socket as readable, although there is nothing to read."""
        client = self.client("cat")
        client.send(b"x")
        self.assertEqual(client.receive(), b"x")
        client.tls.write(b"y" * 10000)
        record = client.outgoing.read()
        client.raw.sendall(record[:5000])
        worker = next(pid for pid in self.service.processes()["worker"]
                      if b"/bin/cat" in read(f"/proc/{pid}/cmdline") and testlib.children(pid))
        processes = [worker, *testlib.children(worker), *self.service.processes()["handshaker"]]
        time.sleep(0.5)
        before = sum(map(testlib.cpu_seconds, processes))
        time.sleep(3)
        used = sum(map(testlib.cpu_seconds, processes)) - before
        print(f"\n  CPU time in 3 s with a part of a record: {used:.2f} s", flush=True)
        self.assertLess(used, 0.5)
        client.raw.sendall(record[5000:])
        self.assertTrue(client.receive().startswith(b"y"))

    def test_a_program_that_ignores_sigterm(self):
        client = self.client("stubborn")
        leader = int(client.receive())
        client.raw.close()
        testlib.wait_until(lambda: not alive(leader), "end of the program")
        self.service.wait_for_log(r"ended conn=\w+ signal=9 ")

    def test_what_a_program_leaves_behind_ends(self):
        client = self.client("group")
        leader, child = map(int, client.receive().split())
        client.end()
        os.kill(leader, signal.SIGKILL)
        testlib.wait_until(lambda: not alive(child), "end of the background process")

    def test_limits(self):
        lines = {"max": "connections = {max = 2}", "source": "connections = {max_per_source = 2}",
                 "idle": 'connections = {idle_timeout = "300ms"}', "old": 'connections = {lifetime = "300ms"}'}
        service = self.enterContext(ExecService(dict.fromkeys(lines, ["/bin/cat"]), lines=lines))

        def echo(tls):
            tls.sendall(b"x\n")
            return tls.recv(10)

        first, second = (self.enterContext(service.connect("source")) for _ in range(2))
        self.assertEqual((echo(first), echo(second)), (b"x\n", b"x\n"))
        with service.connect("source") as third:
            self.assertEqual(testlib.ending(third.recv), "cut")
        service.wait_for_log("refused a connection peer=127.0.0.1 why=max-per-source count=1")

        first, second = (self.enterContext(service.connect("max")) for _ in range(2))
        self.assertEqual((echo(first), echo(second)), (b"x\n", b"x\n"))
        third = self.enterContext(service.connect("max"))
        third.sendall(b"y\n")
        third.settimeout(0.5)
        self.assertRaises(TimeoutError, third.recv, 10)
        third.settimeout(10 * testlib.PATIENCE)
        first.unwrap().close()
        self.assertEqual(third.recv(10), b"y\n", "it has waited in the queue")

        for name, why in (("idle", "nothing was sent for too long"), ("old", "the connection is too old")):
            with service.connect(name) as tls:
                echo(tls)
                self.assertEqual(testlib.ending(tls.recv), "cut")
            service.wait_for_log(why)


class Hanging(unittest.TestCase):
    def test_one_that_hangs_is_replaced(self):
        """`tlsbroker exec` sends heartbeats, as the broker's own processes do."""
        service = self.enterContext(ExecService({"cat": ["/bin/cat"]}))
        service.talk("cat", b"warm")
        hanging = service.processes()["worker"][0]
        start, begun = len(service.log), time.monotonic()
        os.kill(hanging, signal.SIGSTOP)
        service.wait_for_log(f"hangs, killed role=worker service=cat pid={hanging}", start=start)
        service.wait_for_log("started role=worker service=cat", start=start)
        self.assertLess(time.monotonic() - begun, 3 * testlib.PATIENCE)
        self.assertTrue(service.talk("cat", b"again"))
        self.assertEqual(service.status()["services"][0]["hung"], 1)

    def test_one_that_waits_is_left_alone(self):
        service = self.enterContext(ExecService({"cat": ["/bin/cat"]}))
        service.talk("cat", b"warm")
        worker = service.processes()["worker"]
        time.sleep(3)
        self.assertEqual(service.processes()["worker"], worker)


class Many(unittest.TestCase):
    CLIENTS = 500

    def test_nothing_is_left(self):
        """500 connections at once; 200 of them are cut off at random moments."""
        service = self.enterContext(ExecService(
            {"cat": ["/bin/cat"]}, lines='connections = {max = 500}\nlimits = {processes = 4096}',
            service_lines="backlog = 600"))
        service.talk("cat", b"warm")
        worker = service.processes()["worker"][0]
        testlib.wait_until(lambda: not testlib.children(worker), "end of the first session")
        time.sleep(1)  # until the handshaker has ended that connection's relay
        before = self.usage(service, worker)
        choose = random.Random(2)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            clients = list(pool.map(lambda _: self.open(service), range(self.CLIENTS)))
        testlib.wait_until(lambda: len(testlib.children(worker)) == self.CLIENTS, "500 at once", 60)
        cut = choose.sample(clients, 200)
        for client in cut:
            client.tls.write(b"z" * choose.randrange(1, 60000))
            data = client.outgoing.read()
            client.raw.sendall(data[:choose.randrange(1, len(data) + 1)])
            client.raw.close()
        data = random.Random(3).randbytes(100000)
        rest = [client for client in clients if client not in cut]
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            for answer in pool.map(lambda client: client.exchange(data), rest):
                self.assertEqual(answer, data)
        for client in rest:
            client.raw.close()
        testlib.wait_until(lambda: not testlib.children(worker), "end of all sessions", 60)
        try:
            testlib.wait_until(lambda: self.usage(service, worker)[0] == before[0], "descriptors as before", 30)
        finally:
            after = self.usage(service, worker)
            print(f"\n  descriptors {before[0]} -> {after[0]}, KiB {before[1]} -> {after[1]}", flush=True)
        # AddressSanitizer keeps memory that was freed.
        self.assertLess(after[1][worker] - before[1][worker], 65536 if testlib.sanitized() else 256)

    @staticmethod
    def open(service):
        client = Client(service, None, "cat")
        if testlib.GUEST:
            # Each client waits until its program is up: hundreds of programs that start at once would take an emulated processor
            # from the handshakes for minutes.
            client.send(b"a")
            assert client.receive(1) == b"a"
        return client

    @staticmethod
    def usage(service, worker):
        processes = [worker, service.process.pid, *service.processes()["keyholder"]]
        descriptors = {pid: len(os.listdir(f"/proc/{pid}/fd"))
                       for pid in processes + service.processes()["handshaker"]}
        kib = {}
        for pid in processes:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                kib[pid] = int(re.search(r"Private_Dirty:\s+(\d+)", file.read())[1])
        return descriptors, kib


class ByHand(unittest.TestCase):
    def run_tool(self, *arguments):
        return subprocess.run([testlib.program("client-lib/tools/tlsbroker"), "exec", *arguments], capture_output=True,
                              text=True, timeout=30 * testlib.PATIENCE, check=False)

    def test_usage(self):
        self.assertEqual(self.run_tool("--help").returncode, 0)
        for arguments, text in (([], "PROGRAM is missing"), (["--nonsense"], 'no option "--nonsense"'),
                                (["--grace", "soon", "/bin/cat"], '--grace "soon": a time such as "10m" is needed'),
                                (["--max-connections=0", "/bin/cat"], "a number from 1 on is needed")):
            done = self.run_tool(*arguments)
            self.assertEqual(done.returncode, 100, arguments)
            self.assertIn(text, done.stderr)
        done = self.run_tool("/bin/cat")
        self.assertEqual(done.returncode, 100)
        self.assertIn("no queue of connections", done.stderr)
        done = self.run_tool("--socket", "/nonexistent/x.sock", "/bin/cat")
        self.assertEqual(done.returncode, 111)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to attach to it")
    def test_attached(self):
        """The tool is started by hand and attaches to a service; when the broker comes back the tool attaches again."""
        home = self.enterContext(tempfile.TemporaryDirectory())
        certificate = testlib.Certificate(home)
        port = testlib.free_port()
        config = textwrap.dedent(f'''
            [certificate.c]
            chain = "{certificate.chain}"
            key = "{certificate.key}"
            [service.by-hand]
            listen = ["127.0.0.1:{port}"]
            certificates = ["c"]
            ''')
        broker = self.enterContext(testlib.Broker(config))
        path = os.path.join(broker.directory, "run", "by-hand.sock")
        tool = subprocess.Popen([testlib.program("client-lib/tools/tlsbroker"), "exec", "--socket", path, "--",
                                 "/bin/cat"], stderr=subprocess.PIPE)
        try:
            with testlib.tls_connect(port, testlib.tls_context(certificate)) as tls:
                tls.sendall(b"hello\n")
                self.assertEqual(tls.recv(10), b"hello\n")
                tls.unwrap().close()
        finally:
            tool.terminate()
            self.assertEqual(tool.wait(20 * testlib.PATIENCE), 0)
            tool.stderr.close()


if __name__ == "__main__":
    unittest.main()
