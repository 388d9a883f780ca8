# SPDX-License-Identifier: Apache-2.0
"""A broker with two services, "attacked" and "other", and what an attack on the first may not do: cost the second a
handshake, keep the supervisor from answering or from feeding its watchdog, or leave anything behind.

    class Attacks(walls.Walls):
        def test_it(self):
            self.start()
            with self.under(self.attacker("answer", self.socket_path)):
                self.wait_for_hang()
"""

import contextlib
import os
import platform
import pwd
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import broker as testlib
import echo_service
import silent_files

GUEST = testlib.GUEST
SLOW = testlib.PATIENCE
HANDSHAKES = 25 if GUEST else 200
# A hang is noticed after 1.5 s (RoleProcess::kSilence) and is over within 3 s: if something waits for a process that hangs, it
# waits longer than this.
INDEPENDENT = 1.0 * SLOW
# The status has to come within this time.
STATUS_LIMIT = 1.0 * SLOW
WATCHDOG = 2.0
# The longest pause between two starts of the same process: Backoff::kLongest, 10 s, and the time to start.
RECOVERY = 15
ATTACKER = pwd.getpwnam("games")
WORKER = pwd.getpwnam("news")  # no other test uses this user: his processes are stopped
HERE = os.path.dirname(os.path.abspath(__file__))


class Program:
    """Runs wall_attacker.py or another program and keeps the lines that it prints. The program ends with the context."""

    def __init__(self, *command, first_line=None):
        self.process = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if first_line:
            self.wait_for(first_line)

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.strip())
                self.changed.notify_all()

    def wait_for(self, wanted):
        with self.changed:
            self.changed.wait_for(lambda: wanted in self.lines or self.process.poll() is not None, 20 * SLOW)
            if wanted not in self.lines:
                raise AssertionError(f"no {wanted!r}: {self.lines}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()


class SilentFiles(Program):
    """A file of the attacker's, `path`, that never answers as long as the context lasts. See silent_files.py."""

    def __init__(self, what):
        self.directory = tempfile.mkdtemp(prefix="tlsbroker-silent-")
        self.path = os.path.join(self.directory, "f")
        super().__init__(os.path.join(HERE, "silent_files.py"), self.directory, ATTACKER.pw_uid, what,
                         first_line="mounted")

    def __exit__(self, *unused):
        super().__exit__()
        silent_files.unmount(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


def require_silent_files():
    """For tests that need FUSE: skips them where the machine does not allow it."""
    if not os.path.exists("/dev/fuse"):
        subprocess.run(["modprobe", "--quiet", "fuse"], check=False, stderr=subprocess.DEVNULL)
    try:
        with SilentFiles("read"):
            pass
    except (AssertionError, OSError) as why:
        raise unittest.SkipTest(f"no file system of a user's here (/dev/fuse, mount(2)): {why}")


class Service(echo_service.EchoService):
    """With `attached` the workers of the attacked service attach, as the user games; else the service has a worker of the user
    news, or with `own_worker` one that attacks."""

    def __init__(self, ktls="never", attached=True, own_worker=False, handshakers=1, lines="", other_lines="", **options):
        self.attached, self.own_worker, self.of_attacked = attached and not own_worker, own_worker, handshakers
        attached = self.attached
        allowed = f'allow_users = ["{ATTACKER.pw_name}"]\nwrap = ["server"]\n' if attached else ""
        super().__init__({"attacked": ktls, "other": ktls}, lines={"attacked": allowed + lines, "other": other_lines},
                         certificates=lambda home: [testlib.Certificate(home), testlib.Certificate(home, name="other.test")],
                         **options)
        shutil.copy(os.path.join(HERE, "wall_attacker.py"), f"{self.home}/worker.py")
        os.chmod(f"{self.home}/worker.py", 0o644)
        self.environment["WATCHDOG_USEC"] = str(int(WATCHDOG * 1e6))

    def text(self):
        """Each service has a certificate of its own."""
        attacked, other = (one.id for one in self.certificates)
        text = super().text().replace(f'certificates = ["{attacked}", "{other}"]', f'certificates = ["{attacked}"]', 1)
        text = text.replace(f'certificates = ["{attacked}", "{other}"]', f'certificates = ["{other}"]')
        count = self.of_attacked
        text = text.replace("handshakers = { min = 1, max = 1 }", f"handshakers = {{ min = {count}, max = {count} }}", 1)
        if self.own_worker:
            worker = (f'command = ["/usr/bin/python3", "{self.home}/worker.py", "0", "own"]\nuser = "{ATTACKER.pw_name}"\n'
                      f'profile = "strict"\nread_only = ["{self.home}"]\n')
            return re.sub(r"(\[service\.attacked\.worker\]\n)(?:.+\n)*", lambda match: match[1] + worker, text)
        if self.attached:
            return re.sub(r"\[service\.attacked\.worker\]\n(?:.+\n)*", "", text)
        return text.replace('user = "www-data"', f'user = "{WORKER.pw_name}"', 1)

    def service_status(self, name):
        (service,) = [service for service in self.status()["services"] if service["name"] == name]
        return service

    def pids(self, name):
        return {(process["role"], process["pid"]) for process in self.status()["processes"]
                if process["service"] == name}


class Observer:
    """Watches the supervisor all the time, in threads: how long its status takes, and how often it feeds the watchdog."""

    def __init__(self, service):
        self.service, self.stop = service, threading.Event()
        self.slowest_status, self.longest_silence, self.failures, self.seen = 0, 0, [], set()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.ask, self.listen)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.stop.is_set():
            begun = time.monotonic()
            try:
                status = self.service.status()
            except (subprocess.SubprocessError, ValueError) as error:
                self.failures.append(str(error))
                continue
            self.slowest_status = max(self.slowest_status, time.monotonic() - begun)
            self.seen |= {process["pid"] for process in status["processes"]}
            self.stop.wait(0.1)

    def listen(self):
        notify, last = self.service._notify, time.monotonic()
        notify.settimeout(0.1)
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                if b"WATCHDOG=1" in notify.recv(4096):
                    last = time.monotonic()
            self.longest_silence = max(self.longest_silence, time.monotonic() - last)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30 * SLOW)


def alive(pid):
    """Whether a process of the broker still has this number."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            text = file.read()
        return text.rpartition(")")[2].split()[0] not in "ZX" and "(tlsbroker" in text
    return False


@unittest.skipUnless(os.geteuid() == 0 and platform.machine() == "x86_64", "needs root to be others, and x86-64")
class Walls(unittest.TestCase):
    ktls = "never"

    def start(self, **options):
        self.service = self.enterContext(Service(self.ktls, **options))
        self.socket_path = os.path.join(self.service.directory, "run", "attacked.sock")
        self.context = self.service.context()
        self.attacked_serves()
        self.handshake()
        self.pids_of_other = self.service.pids("other")
        self.observer = Observer(self.service)
        self.addCleanup(self.observer.end)
        self.before = self.handshakes(HANDSHAKES, 0.005)

    def attacker(self, attack, *arguments, user=ATTACKER.pw_uid):
        return Program(os.path.join(HERE, "wall_attacker.py"), user, attack, *arguments, first_line="attacking")

    def handshake(self):
        """Makes a handshake with the other service and returns how long it took. The worker has to answer, too."""
        begun = time.monotonic()
        with self.service.connect("other", context=self.context, server_name="other.test", timeout=60) as tls:
            took = time.monotonic() - begun
            tls.sendall(b"PID\n")
            self.assertTrue(tls.recv(100))
        return took

    def handshakes(self, count, pause):
        took = []
        for _ in range(count):
            took.append(self.handshake())
            time.sleep(pause)
        return took

    def attacked_serves(self):
        """The attacked service serves a client. If it has no worker of its own, one that does not attack attaches first."""
        if not self.service.attached:
            with self.service.connect("attacked", context=self.context, timeout=RECOVERY) as tls:
                tls.sendall(b"PID\n")
                self.assertTrue(tls.recv(100))
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as attachment:
            attachment.settimeout(RECOVERY * SLOW)
            attachment.connect(self.socket_path)
            _, descriptors, _, _ = socket.recv_fds(attachment, 64, 4)
            queue, requests = (socket.socket(fileno=descriptor) for descriptor in descriptors)
            with queue, requests:
                stop = threading.Event()
                serving = threading.Thread(target=self.serve, args=(queue, stop))
                serving.start()
                try:
                    with self.service.connect("attacked", context=self.context, timeout=RECOVERY) as tls:
                        self.assertEqual(tls.recv(100), b"attacked")
                finally:
                    stop.set()
                    serving.join()

    @staticmethod
    def serve(queue, stop):
        """Serves all connections that wait, also those that the attack has left. The queue is not set to O_NONBLOCK, which would
        hold for every worker."""
        while not stop.is_set():
            select.select([queue], [], [], 0.1)
            with contextlib.suppress(OSError):
                _, control, _, _ = queue.recvmsg(16384, 64, socket.MSG_DONTWAIT)
                if not control:  # the attack has shut the queue down
                    return
                with socket.socket(fileno=int.from_bytes(control[0][2][:4], sys.byteorder)) as connection:
                    connection.send(b"attacked")

    @contextlib.contextmanager
    def under(self, *programs):
        """Runs the attack, and handshakes with the other service at the same time. The block ends when it has seen what it waits
        for; then the attack ends, and everything has to recover by itself."""
        during, failures, over = [], [], threading.Event()

        def connect():
            while not over.is_set() or len(during) < HANDSHAKES:
                try:
                    during.append(self.handshake())
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(f"after {len(during)}: {type(error).__name__}: {error}")
                    return
                time.sleep(0.01)

        client = threading.Thread(target=connect)
        with contextlib.ExitStack() as attack:
            for program in programs:
                attack.enter_context(program)
            client.start()
            try:
                yield
            except AssertionError as error:
                raise AssertionError(f"{error}\nthe attackers: {[program.lines for program in programs]}") from error
            finally:
                over.set()
                client.join()
                # All are killed before any is waited for: the end of one may need the end of the others.
                for program in programs:
                    program.process.kill()
        self.assertEqual(failures, [], "a handshake with the other service")
        self.report(during)
        self.recovers()

    def report(self, during):
        before, now = statistics.median(self.before), statistics.median(during)
        print(f"\n  other: {len(during)} handshakes, median {now * 1000:.1f} ms, {now / before:.2f} times that before, slowest "
              f"{max(during) * 1000:.0f} ms; slowest status {self.observer.slowest_status * 1000:.0f} ms, watchdog fed "
              f"every {self.observer.longest_silence:.2f} s at the longest", flush=True)
        self.assertLess(max(during), INDEPENDENT, "a handshake has waited for something")
        # This is not a measurement: this machine may be busy with other things, and so may the machine of the next person.
        self.assertLess(now, 3 * before + 0.05 * SLOW)

    def recovers(self):
        """The attacked service recovers without help; the other one has not been affected."""
        def serves():
            with contextlib.suppress(OSError, AssertionError):
                self.attacked_serves()
                return True
            return False

        try:
            testlib.wait_until(serves, "service after the attack", RECOVERY)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n" + self.service.log_text()) from error
        self.handshake()
        self.observer.end()
        self.assertEqual(self.observer.failures, [])
        self.assertLess(self.observer.slowest_status, STATUS_LIMIT)
        self.assertLess(self.observer.longest_silence, WATCHDOG * testlib.PATIENCE)
        self.assertEqual(self.service.pids("other"), self.pids_of_other, "its processes are the same")
        other = self.service.service_status("other")
        self.assertEqual((other["hung"], other["left_behind"], other["generation"]), (0, 0, 1))
        self.ends()

    def ends(self):
        """The broker ends, and leaves no process behind."""
        seen = self.observer.seen | set(testlib.children(self.service.process.pid))
        self.service.signal(signal.SIGTERM)
        self.assertEqual(self.service.process.wait(20 * SLOW), 0)
        left = [pid for pid in seen if alive(pid)]
        self.assertEqual(left, [], "processes of the broker")

    def wait_for_hang(self, role="handshaker", times=1):
        """Waits until the log reports a hang, and the status counts it."""
        for number in range(times):
            start = getattr(self, "hangs_seen", 0)
            line = self.service.wait_for_log(rf"hangs, killed role={role}\S* service=attacked generation=\d+ pid=\d+ "
                                             r"silent_ms=(\d+) state=\S", start=start, timeout=20)
            self.hangs_seen = next(i for i, one in enumerate(self.service.log) if i >= start and line.group() in one) + 1
            self.assertLess(int(line[1]), 3000 * SLOW)
            testlib.wait_until(lambda number=number: self.service.service_status("attacked")["hung"] > number, "count")
