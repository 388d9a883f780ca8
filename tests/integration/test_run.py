# SPDX-License-Identifier: Apache-2.0
"""Unmodified daemons: their accept(2) is answered with TLS connections."""

import concurrent.futures
import os
import select
import signal
import socket
import subprocess
import tempfile
import textwrap
import threading
import unittest

import broker as testlib
import run_cases
from exec_service import ExecService

# Closes its listener when a line "again" comes, and makes a new one some time later.
RELISTENER = """
import socket, sys, time
while True:
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                line = connection.makefile("rb").readline()
                connection.sendall(line)
            if line == b"again\\n":
                break
    time.sleep(0.5)
"""
# Makes a new listener, on the same port, for each SIGHUP, which interrupts its accept(2).
HANGUP = """
import signal, socket, sys
class Hangup(Exception):
    pass
def hangup(*_):
    raise Hangup
signal.signal(signal.SIGHUP, hangup)
while True:
    try:
        with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
            print("listening", flush=True)
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"tls")
    except Hangup:
        pass
"""
# More threads wait in accept(2) than there may be nested epoll instances for one listener (fs/eventpoll.c, path_limits).
THREADS = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve():
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(100))
for _ in range(600):
    threading.Thread(target=serve).start()
print("started", flush=True)
"""
# A blocking accept(2) that a signal handler interrupts, in a thread that is not the first one.
SIGNALLED = """
import signal, socket, sys, threading
signal.signal(signal.SIGHUP, lambda *_: print("hangup", flush=True))
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
other = socket.create_server(("127.0.0.1", 0))
print(other.getsockname()[1], flush=True)
def serve(listener, word):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(word)
threading.Thread(target=serve, args=(other, b"other"), daemon=True).start()
serve(listener, b"tls")
"""


# A listener that the kernel would wake only when a client has sent something, set before or after listen(2).
DEFERRED = """
import socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
defer = lambda: listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 300)
if sys.argv[2] == "before": defer()
listener.listen(8)
if sys.argv[2] == "after": defer()
while True:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"hello")
"""
# For each line a new connection to itself: by blocking and by non-blocking connect(2), to the listener's own address and others,
# closed before it is accepted or kept open.
TO_ITSELF = """
import os, select, socket, sys
family, address, port = getattr(socket, sys.argv[1]), sys.argv[2], int(sys.argv[3])
listener = socket.socket(family)
listener.bind((address, port))
listener.listen(8)
def to_itself(family, address, blocking, close):
    connection = socket.socket(family)
    connection.setblocking(blocking)
    try:
        connection.connect((address, port))
    except BlockingIOError:
        select.select([], [connection], [])
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    own = connection.getsockname()[:2]
    connection.sendall(b"ping")
    if close: connection.close()
    accepted, peer = listener.accept()
    assert (peer[0].removeprefix("::ffff:"), peer[1]) == own, (peer, own)
    assert accepted.getpeername() == peer
    assert accepted.recv(100) == b"ping"
    if close:
        assert accepted.recv(100) == b""
    else:
        accepted.sendall(b"pong")
        assert connection.recv(100) == b"pong"
    accepted.close()
    connection.close()
while True:
    connection, _ = listener.accept()
    with connection:
        targets = [(socket.AF_INET, "127.0.0.1")]
        if family == socket.AF_INET6: targets.append((socket.AF_INET6, "::1"))
        for target in targets:
            for blocking in (True, False):
                for close in (True, False):
                    to_itself(*target, blocking, close)
        # A child is the daemon, too.
        child = os.fork()
        if child == 0:
            with socket.create_connection(("127.0.0.1", port)) as other: os._exit(other.recv(100) != b"child")
        accepted, _ = listener.accept()
        with accepted: accepted.sendall(b"child")
        connection.sendall(b"all %d" % os.waitpid(child, 0)[1])
"""


# Two processes that SIGTERM does not end; or one, which the other leaves behind.
STAYS = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
while child == 0: signal.pause()
if sys.argv[2] == "leaves": signal.signal(signal.SIGTERM, signal.SIG_DFL)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    with connection: connection.sendall(b"%d %d" % (os.getpid(), child))
"""
# At SIGTERM it saves a file, which takes a while, as with redis.
SAVES = """
import os, signal, socket, sys, time
def save(*_):
    time.sleep(0.3)
    with open(sys.argv[2], "w") as file: file.write("data")
    sys.exit()
signal.signal(signal.SIGTERM, save)
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    with connection: connection.sendall(b"%d" % os.getpid())
"""
# At SIGTERM it ends its other process in its own way, and writes down how that one has ended.
MANAGES = """
import os, signal, socket, sys
read, write = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
    os.close(read)
    os.close(write)
    while True: signal.pause()
os.close(write)
os.read(read, 1)
def end(*_):
    os.kill(child, signal.SIGUSR1)
    status = os.waitpid(child, 0)[1]
    with open(sys.argv[2], "w") as file: file.write(str(os.waitstatus_to_exitcode(status)))
    sys.exit()
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    with connection: connection.sendall(b"%d %d" % (os.getpid(), child))
"""
# Tells the signals that it gets; ends by SIGUSR1.
TELLS = """
import signal, socket
def tell(number): print(signal.Signals(number).name, flush=True)
signals = {signal.SIGTERM, signal.SIGUSR1}
signal.alarm(300)  # if the test fails
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("started", flush=True)
listener = socket.create_server(("127.0.0.1", 0))  # before that the runner does not look at the queue
number = 0
while number != signal.SIGUSR1:
    number = signal.sigwait(signals)
    tell(number)
for number in signal.sigpending(): tell(number)
"""
# Executes a program as a worker whose queue has the given descriptor.
AS_WORKER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="tlsbroker.tells")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Run(run_cases.Bridged, unittest.TestCase):
    pass


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class NothingIsLeft(unittest.TestCase):
    def start(self, how, *words):
        words = words or ("/usr/bin/python3", "-c", STAYS, "8080", how)
        self.service = self.enterContext(ExecService({how: words}, 'read_write = ["{home}/writable"]', daemons=(how,)))
        with self.service.connect(how) as tls:
            pids = [int(word) for word in tls.recv(100).split()]
        processes = [os.pidfd_open(pid) for pid in pids]
        for process in processes:
            self.addCleanup(os.close, process)
        return pids[0], processes

    def stop(self):
        self.service.signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(40 * testlib.PATIENCE), 0)

    @staticmethod
    def ended(processes):
        return len(select.select(processes, [], [], 0)[0]) == len(processes)

    def test_of_a_daemon_that_ignores_sigterm(self):
        _, processes = self.start("ignores")
        self.stop()
        self.service.wait_for_log("run: the daemon does not end by SIGTERM, killed service=ignores")
        self.assertTrue(self.ended(processes))

    def test_of_a_process_that_the_daemon_leaves(self):
        _, processes = self.start("leaves")
        self.stop()
        self.service.wait_for_log("run: processes that the daemon has left do not end by SIGTERM, killed service=leaves")
        self.assertTrue(self.ended(processes))

    def saved(self):
        try:
            with open(os.path.join(self.service.writable, "saved"), encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def start_wrapped(self):
        return self.start("wrapped", "/bin/sh", "-c", '/usr/bin/python3 -c "$1" 8080 "$2"; true', "sh", SAVES,
                          "{home}/writable/saved")

    def test_of_a_wrapped_daemon(self):
        """The shell ends at once by SIGTERM; the server behind it gets one, too, and the time to save its data."""
        _, processes = self.start_wrapped()
        self.stop()
        self.assertEqual(self.saved(), "data")
        self.assertTrue(self.ended(processes))
        self.assertNotIn("by SIGTERM, killed", self.service.log_text())

    def test_of_a_wrapped_daemon_whose_wrapper_was_killed(self):
        server, processes = self.start_wrapped()
        with open(f"/proc/{server}/stat", encoding="ascii") as file:
            wrapper = int(file.read().rpartition(")")[2].split()[1])
        os.kill(wrapper, signal.SIGKILL)
        self.service.wait_for_log("ended role=worker service=wrapped .*137")
        self.assertEqual(self.saved(), "data")
        self.assertTrue(self.ended(processes))

    def test_of_processes_that_the_daemon_ends_itself(self):
        """They get no SIGTERM as long as the first process lives."""
        _, processes = self.start("manages", "/usr/bin/python3", "-c", MANAGES, "8080", "{home}/writable/saved")
        self.stop()
        self.assertEqual(self.saved(), "5")
        self.service.wait_for_log("run: the daemon has ended service=manages exit=0")
        self.assertTrue(self.ended(processes))

    def test_of_a_daemon_that_was_killed(self):
        """The next one finds none of its processes."""
        first, processes = self.start("leaves")
        os.kill(first, signal.SIGKILL)
        self.service.wait_for_log("ended role=worker service=leaves .*137")
        testlib.wait_until(lambda: self.ended(processes), "end of all its processes")


class AtTheEndOfTheBroker(unittest.TestCase):
    """The broker shuts the queue and sends SIGTERM; which of both the runner sees first is chance."""

    def test_the_daemon_gets_sigterm_once(self):
        sending, queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with sending, queue:
            runner = subprocess.Popen(["/usr/bin/python3", "-c", AS_WORKER, str(queue.fileno()),
                                       testlib.program("client-lib/tools/tlsbroker"), "run", "/usr/bin/python3", "-c", TELLS],
                                      pass_fds=[queue.fileno()], stdout=subprocess.PIPE, text=True)
        self.addCleanup(runner.stdout.close)
        self.addCleanup(runner.wait)
        self.addCleanup(runner.kill)
        self.assertEqual(runner.stdout.readline(), "started\n")
        self.assertEqual(runner.stdout.readline(), "SIGTERM\n")
        runner.send_signal(signal.SIGTERM)
        testlib.wait_until(lambda: not self.is_pending(runner.pid, signal.SIGTERM), "SIGTERM was taken")
        runner.send_signal(signal.SIGUSR1)
        self.assertEqual(runner.stdout.read(), "SIGUSR1\n")
        self.assertEqual(runner.wait(20 * testlib.PATIENCE), 0)

    @staticmethod
    def is_pending(pid, number):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            pending = next(line for line in file if line.startswith("ShdPnd:"))
        return int(pending.split()[1], 16) >> (number - 1) & 1


@unittest.skipUnless(os.geteuid() == 0, "needs root to attach to it")
class ByHand(unittest.TestCase):
    def setUp(self):
        self.home = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.home, 0o755)
        os.mkdir(os.path.join(self.home, "writable"))
        os.chmod(os.path.join(self.home, "writable"), 0o777)
        self.certificate = testlib.Certificate(self.home)
        self.port, self.daemon_port = testlib.free_port(), testlib.free_port()
        self.broker = self.enterContext(testlib.Broker(textwrap.dedent(f'''
            [certificate.c]
            chain = "{self.certificate.chain}"
            key = "{self.certificate.key}"
            [service.by-hand]
            listen = ["127.0.0.1:{self.port}"]
            certificates = ["c"]
            ''')))

    def start(self, *arguments):
        """Starts the tool; self.log gets its standard error as it comes."""
        path = os.path.join(self.broker.directory, "run", "by-hand.sock")
        tool = subprocess.Popen([testlib.program("client-lib/tools/tlsbroker"), "run", "--socket", path, *arguments],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.log = []
        reader = threading.Thread(target=self.log.extend, args=(tool.stderr,), daemon=True)
        reader.start()
        self.addCleanup(self.end, tool, reader)
        return tool

    @staticmethod
    def end(tool, reader=None):
        if tool.poll() is None:
            tool.terminate()
            try:
                tool.wait(10 * testlib.PATIENCE)
            except subprocess.TimeoutExpired:
                tool.kill()
                tool.wait()
        if reader:
            reader.join(10)
            tool.stdout.close()
            tool.stderr.close()

    def wait_for_log(self, text):
        testlib.wait_until(lambda: any(text in line for line in list(self.log)), f"{text} in the log")

    def ask(self, text=b""):
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) as tls:
            tls.sendall(text)
            return b"".join(iter(lambda: tls.recv(100), b""))

    def plain(self, port):
        try:
            with socket.create_connection(("127.0.0.1", port), 10 * testlib.PATIENCE) as connection:
                return connection.recv(100)
        except ConnectionResetError:  # perhaps before connect(2) has returned
            return "reset"

    def test_usage(self):
        def run_tool(*arguments):
            return subprocess.run([testlib.program("client-lib/tools/tlsbroker"), "run", *arguments],
                                  capture_output=True, text=True, timeout=30 * testlib.PATIENCE, check=False)
        self.assertEqual(run_tool("--help").returncode, 0)
        for arguments, text in (([], "PROGRAM is missing"), (["--nonsense"], 'no option "--nonsense"'),
                                (["--port", "0", "x"], '--port "0": a number from 1 on is needed'),
                                (["--listen", "localhost:1", "x"], "an address such as 127.0.0.1:8080"),
                                (["--port=1", "--listen=1.2.3.4:5", "x"], "one of them is needed")):
            done = run_tool(*arguments)
            self.assertEqual(done.returncode, 100, arguments)
            self.assertIn(text, done.stderr)
        done = run_tool("/bin/true")
        self.assertEqual(done.returncode, 100)
        self.assertIn("no queue of connections", done.stderr)
        self.assertEqual(run_tool("--socket", "/nonexistent/x.sock", "/bin/true").returncode, 111)

    def test_exit_status(self):
        for words, status in ((["/bin/sh", "-c", "exit 7"], 7), (["/bin/sh", "-c", "kill -9 $$"], 137),
                              (["/nonexistent/daemon"], 127)):
            self.assertEqual(self.start(*words).wait(20 * testlib.PATIENCE), status)
        self.start("/bin/true").wait(20 * testlib.PATIENCE)
        self.wait_for_log(b"stay in the foreground")

    def test_signals_and_other_listeners(self):
        tool = self.start("/usr/bin/python3", "-c", SIGNALLED, str(self.daemon_port))
        other = int(tool.stdout.readline())
        self.assertEqual(self.ask(), b"tls")
        for _ in range(3):
            tool.send_signal(signal.SIGHUP)
            # If a signal comes just before accept(2), Python runs its handler only after that call.
            self.assertEqual(self.ask(), b"tls")
            self.assertEqual(tool.stdout.readline(), b"hangup\n")
        self.assertEqual(self.plain(other), b"other")
        tool.terminate()
        self.assertEqual(tool.wait(20 * testlib.PATIENCE), 128 + signal.SIGTERM)

    def test_the_listener_is_chosen(self):
        script = ("import socket,sys\n"
                  "one, two = (socket.create_server(('127.0.0.1', int(p))) for p in sys.argv[1:])\n"
                  "while True:\n c = two.accept()[0]; c.sendall(b'two'); c.close()")
        for option in ("--port=%d", "--listen=127.0.0.1:%d"):
            ports = testlib.free_port(), testlib.free_port()
            tool = self.start(option % ports[1], "/usr/bin/python3", "-c", script, *map(str, ports))
            self.assertEqual(self.ask(), b"two")
            self.end(tool)

    def test_plaintext_connections_are_closed(self):
        self.start("/usr/bin/python3", "-c", SIGNALLED, str(self.daemon_port))
        self.assertEqual(self.ask(), b"tls")
        self.assertEqual(self.plain(self.daemon_port), "reset")
        self.wait_for_log(b"closed a connection that did not come through the broker peer=127.0.0.1:")
        self.assertEqual(self.ask(), b"tls")

    def test_a_listener_with_deferred_accept(self):
        for when in ("before", "after"):
            tool = self.start("/usr/bin/python3", "-c", DEFERRED, str(self.daemon_port), when)
            self.assertEqual(self.ask(), b"hello")
            self.end(tool)
            self.daemon_port = testlib.free_port()

    def test_connections_of_the_daemon_to_itself(self):
        """They are plaintext, while those of others are closed."""
        for family, address in (("AF_INET", "127.0.0.1"), ("AF_INET", "0.0.0.0"), ("AF_INET6", "::")):
            tool = self.start("/usr/bin/python3", "-c", TO_ITSELF, family, address, str(self.daemon_port))
            self.assertEqual(self.ask(), b"all 0", (family, address, self.log))
            self.assertFalse([line for line in self.log if b"closed a connection" in line])
            self.assertEqual(self.plain(self.daemon_port), "reset")
            self.assertEqual(self.ask(), b"all 0")
            self.end(tool)
            self.daemon_port = testlib.free_port()

    def test_a_second_port_is_told(self):
        """Which port clients reach was decided by the order of the daemon's calls."""
        tool = self.start("/usr/bin/python3", "-c", SIGNALLED, str(self.daemon_port))
        other = int(tool.stdout.readline())
        self.wait_for_log(b"the daemon listens on several ports, and clients get the first one; if that is wrong, name "
                          b"another by 'port' in the configuration, or --port service=by-hand "
                          b"address=127.0.0.1:%d other=127.0.0.1:%d"
                          % (self.daemon_port, other))
        self.end(tool)
        port = testlib.free_port()
        tool = self.start(f"--port={port}", "/usr/bin/python3", "-c", SIGNALLED, str(port))
        self.assertEqual(self.ask(), b"tls")
        self.assertFalse([line for line in self.log if b"several ports" in line])

    def test_log_lines_name_the_service(self):
        tool = self.start("/usr/bin/python3", "-c", SIGNALLED, str(self.daemon_port))
        self.assertEqual(self.ask(), b"tls")
        self.wait_for_log(b"ended conn=")
        self.end(tool)
        lines = [line for line in self.log if b"run: " in line]
        self.assertGreater(len(lines), 3)
        self.assertEqual([line for line in lines if b" service=by-hand" not in line], [])

    def test_a_listener_that_comes_back(self):
        """Connections that come while there is no listener are not lost."""
        self.start("/usr/bin/python3", "-c", RELISTENER, str(self.daemon_port))
        for text in (b"one\n", b"again\n", b"two\n", b"again\n", b"three\n"):
            self.assertEqual(self.ask(text), text)

    def test_a_new_listener_on_the_same_port_at_once(self):
        """The tool does not keep the old listener open after the daemon has closed it."""
        tool = self.start("/usr/bin/python3", "-c", HANGUP, str(self.daemon_port))
        for _ in range(20):
            self.assertEqual(tool.stdout.readline(), b"listening\n", self.log)
            self.assertEqual(self.ask(), b"tls")
            self.wait_until_accepting(tool)
            tool.send_signal(signal.SIGHUP)

    def test_many_threads_in_accept(self):
        tool = self.start("/usr/bin/python3", "-c", THREADS, str(self.daemon_port))
        self.assertEqual(tool.stdout.readline(), b"started\n")
        texts = [b"%d\n" % number for number in range(100)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(self.ask, texts)), texts)
        self.assertFalse([line for line in self.log if b"Error" in line])

    @staticmethod
    def wait_until_accepting(tool):
        (daemon,) = testlib.children(tool.pid)

        def sleeps():
            with open(f"/proc/{daemon}/stat", encoding="ascii") as file:
                return file.read().rpartition(")")[2].split()[0] == "S"

        testlib.wait_until(sleeps, "daemon in accept(2)")

    def test_the_broker_comes_back(self):
        self.start("/usr/bin/python3", "-c", RELISTENER, str(self.daemon_port))
        self.assertEqual(self.ask(b"one\n"), b"one\n")
        self.broker.signal(signal.SIGTERM)
        self.broker.process.wait(20 * testlib.PATIENCE)
        os.remove(os.path.join(self.broker.directory, "notify"))
        self.broker.start()
        self.assertEqual(self.ask(b"two\n"), b"two\n")

    def test_cuts_go_through(self):
        """If one side cuts the connection off the other side sees a cut, not an end."""
        script = ("import socket,struct,sys\n"
                  "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
                  "while True:\n"
                  " c = s.accept()[0]\n"
                  " if c.recv(100) == b'cut me\\n':\n"
                  "  c.sendall(b'part'); c.setsockopt(1, 13, struct.pack('ii', 1, 0)); c.close(); continue\n"
                  " c.sendall(b'more?')\n"
                  " try: print(c.recv(100), flush=True)\n"
                  " except OSError as e: print(e.errno, flush=True)\n"
                  " c.close()\n")
        tool = self.start("/usr/bin/python3", "-c", script, str(self.daemon_port))
        context = testlib.tls_context(self.certificate)
        with testlib.tls_connect(self.port, context) as tls:
            tls.sendall(b"cut me\n")
            self.assertEqual(testlib.ending(tls.recv), "cut")
        with testlib.tls_connect(self.port, context) as tls:
            tls.sendall(b"hello\n")
            self.assertEqual(tls.recv(100), b"more?")
        self.assertEqual(tool.stdout.readline(), b"104\n")  # ECONNRESET
        with testlib.tls_connect(self.port, context) as tls:
            tls.sendall(b"hello\n")
            self.assertEqual(tls.recv(100), b"more?")
            tls.unwrap().close()
        self.assertEqual(tool.stdout.readline(), b"b''\n")

    def test_nginx_with_a_user_of_its_own_and_a_reload(self):
        def conf(word):
            return run_cases.write_nginx_conf(self.home, f"127.0.0.1:{self.daemon_port}", front="user www-data;\n",
                                              extra=f'location = /word {{ return 200 "{word}\\n"; }}')

        def word():
            return subprocess.run(["curl", "-sS", "--cacert", self.certificate.chain,
                                   f"https://localhost:{self.port}/word"], capture_output=True,
                                  timeout=60 * testlib.PATIENCE, check=True).stdout

        tool = self.start("/usr/sbin/nginx", "-e", f"{self.home}/writable/start.log", "-c", conf("one"))
        self.assertEqual(word(), b"one\n")
        conf("two")
        tool.send_signal(signal.SIGHUP)
        testlib.wait_until(lambda: word() == b"two\n", "the new configuration")
        tool.send_signal(signal.SIGQUIT)
        self.assertEqual(tool.wait(20 * testlib.PATIENCE), 0)


if __name__ == "__main__":
    unittest.main()
