# SPDX-License-Identifier: Apache-2.0
"""The log: the processes below the supervisor cannot stop, forge or read it, and nobody who reads it can stop the broker."""

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import tempfile
import termios
import threading
import time
import unittest

import broker as testlib
import takeover

TESTLIB = os.path.dirname(os.path.abspath(testlib.__file__))
LOST = re.compile(r"(\d+) lines (?:of processes that have ended are )?lost")
F_SETPIPE_SZ = 1031
BROKER = """
[broker]
runtime_dir = "{runtime_dir}"
user = "nobody"
[certificate.it]
chain = "CHAIN"
key = "KEY"
"""
SERVICE = """
[service.NAME]
listen = ["127.0.0.1:PORT"]
certificates = ["it"]
[service.NAME.worker]
command = ["/usr/bin/python3", "DIR/log_worker.py", ARGUMENTS]
user = "USER"
profile = "PROFILE"
read_only = ["DIR"]
"""
USERS = ["games", "daemon", "www-data"]


class Reader:
    """Reads what comes out of a descriptor, except while the test has stopped it."""

    def __init__(self, fd):
        self.fd, self.data, self.going = fd, bytearray(), threading.Event()
        self.going.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            self.going.wait()
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # from a terminal whose other side is closed
                return
            if not piece:
                return
            self.data += piece

    def lines(self):
        return [re.sub(r"^<\d>", "", line) for line in self.data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")[:-1]]

    def wait_for(self, pattern, timeout=10):
        return testlib.wait_until(lambda: next(filter(None, (re.search(pattern, line) for line in self.lines())), None),
                                  f"{pattern!r} in the log:\n" + "\n".join(self.lines()[-40:]), timeout)


class LogCase(unittest.TestCase):
    """Starts brokers whose workers are log_worker.py."""

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="tlsbroker-log-")
        self.addCleanup(shutil.rmtree, self.home)
        os.chmod(self.home, 0o755)
        os.mkdir(f"{self.home}/w")
        shutil.copy(f"{TESTLIB}/log_worker.py", f"{self.home}/w")
        self.certificate = testlib.Certificate(self.home)
        self.ports = {}

    def start(self, services=(("web", "quiet"),), stderr=None, profile="default", worker_lines=""):
        """Starts a broker with a service for each (name, what its worker does)."""
        config = BROKER.replace("CHAIN", self.certificate.chain).replace("KEY", self.certificate.key)
        for user, (name, *arguments) in zip(USERS, services):
            self.ports[name] = testlib.free_port()
            values = {"NAME": name, "PORT": str(self.ports[name]), "DIR": f"{self.home}/w", "USER": user,
                      "PROFILE": profile, "ARGUMENTS": ", ".join(f'"{a}"' for a in arguments)}
            text = SERVICE
            for key, value in values.items():
                text = text.replace(key, value)
            config += text + worker_lines + "\n"
        self.broker = testlib.Broker(config, stderr=stderr)
        self.enterContext(self.broker)
        return self.broker

    def start_reading(self, **options):
        """Starts a broker whose standard error is a small pipe; returns a reader of that pipe that can be stopped."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        fcntl.fcntl(reading, F_SETPIPE_SZ, 4096)
        reader = Reader(reading)
        self.addCleanup(reader.going.set)
        self.start(stderr=writing, **options)
        os.close(writing)
        return reader

    def handshakes(self, count, service="web"):
        """Makes so many handshakes; returns how long each took."""
        context, took = testlib.tls_context(self.certificate), []
        for _ in range(count):
            begun = time.monotonic()
            with testlib.tls_connect(self.ports[service], context):
                took.append(time.monotonic() - begun)
        return took

    def stop(self):
        begun = time.monotonic()
        self.assertEqual(self.broker.stop(), 0)
        return time.monotonic() - begun

    def pids(self):
        testlib.wait_until(lambda: len(self.broker.processes().get("logger", ())) == 1 + len(self.ports)
                           and len(self.broker.processes().get("worker", ())) == len(self.ports), "all processes")
        return {role: sorted(pids) for role, pids in self.broker.processes().items()}

    def reload(self):
        before = (self.broker.status()["last_reload"] or {"number": 0})["number"]
        self.broker.signal(signal.SIGHUP)
        testlib.wait_until(lambda: (self.broker.status()["last_reload"] or {"number": 0})["number"] > before, "reload", 20)
        self.assertTrue(self.broker.status()["last_reload"]["ok"])

    def assert_serves_and_starts_again(self):
        """The keyholder is killed: the broker has to be able to log that, and the next keyholder to log its start."""
        self.handshakes(5)
        for pid in self.pids()["keyholder"]:
            os.kill(pid, signal.SIGKILL)

        def replaced():
            return all((s["generation"], s["state"]) == (2, "serving") for s in self.broker.status()["services"])
        testlib.wait_until(replaced, "second generation", 20)
        self.reload()
        self.handshakes(5)


class Readers(LogCase):
    """Programs that read the broker's log."""

    def test_one_that_stops_for_a_while(self):
        reader = self.start_reading()
        reader.wait_for(r"worker\.web\[\d+\]: here")
        before, pids = self.handshakes(60), self.pids()
        reader.going.clear()
        stalled = self.handshakes(60)
        ratio = sorted(stalled)[30] / sorted(before)[30]
        print(f"median of a handshake while nobody reads the log: {ratio:.2f} times what it was")
        self.assertEqual(self.pids(), pids)
        reader.going.set()
        # A line has 200 bytes, and there is room for all lines.
        testlib.wait_until(lambda: sum(" mode=" in line for line in reader.lines()) == 120, "all lines")
        self.assertFalse([line for line in reader.lines() if LOST.search(line)])
        self.stop()

    def test_what_is_lost_is_counted(self):
        reader = self.start_reading(services=[("web", "count", "0.0015", "500")])
        reader.wait_for("number 100$")
        reader.going.clear()
        time.sleep(3)
        self.handshakes(20)
        reader.going.set()
        reader.wait_for(r"^worker\.web: \d+ lines lost \(the log is read too slowly\)")
        time.sleep(1)
        last = int(reader.wait_for(r"number \d+$").string.split()[-1])
        numbers = [int(line.split()[-1]) for line in reader.lines() if re.search(r"]: \.*number \d+$", line)]
        missing = numbers[-1] + 1 - len(numbers)
        self.assertGreater(missing, 0)
        self.assertEqual(sum(int(LOST.search(line)[1]) for line in reader.lines() if LOST.search(line)), missing)
        self.assertEqual(sum(" mode=" in line for line in reader.lines()), 20, "the broker's own lines have room")
        self.assertGreaterEqual(numbers[-1], last)

    def test_one_that_goes_away(self):
        reading, writing = os.pipe()
        self.start(stderr=writing)
        os.close(writing)
        self.handshakes(1)
        before = self.pids()
        os.close(reading)
        self.assert_serves_and_starts_again()
        after = self.pids()
        self.assertEqual((after["logger"], after["worker"]), (before["logger"], before["worker"]))
        self.stop()

    def test_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            self.start(stderr=full)
        self.assert_serves_and_starts_again()
        self.stop()

    def test_a_terminal_that_is_stopped(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        reader = Reader(master)
        self.start(stderr=slave)
        reader.wait_for("here")
        self.assertNotIn(b"<6>", reader.data, "no priorities on a terminal")
        termios.tcflow(slave, termios.TCOOFF)
        self.assert_serves_and_starts_again()
        self.assertFalse([line for line in reader.lines() if "generation=2" in line])
        termios.tcflow(slave, termios.TCOON)
        reader.wait_for("ready generation=2")
        termios.tcflow(slave, termios.TCOOFF)
        self.handshakes(5)
        self.assertLess(self.stop(), 5 * testlib.PATIENCE)
        os.close(slave)

    def test_the_end_with_one_that_has_stopped(self):
        reader = self.start_reading()
        self.handshakes(5)
        usual = self.stop()
        reader = self.start_reading()
        reader.going.clear()
        self.handshakes(40)
        stalled = self.stop()
        print(f"end: {usual:.2f} s; with a log that nobody reads: {stalled:.2f} s")
        self.assertLess(stalled, usual + 2 * testlib.PATIENCE)

    def test_a_stream_socket(self):
        """Standard error is a stream socket, as under systemd."""
        ours, theirs = socket.socketpair()
        with ours:
            reader = Reader(ours.fileno())
            self.start(stderr=theirs.fileno(), services=[("web", "grab")])
            self.assertTrue(os.get_blocking(theirs.fileno()), "the others' descriptor is as it was")
            theirs.close()
            reader.wait_for(r"worker\.web\[\d+\]: grabbed")
            self.assertIn(b"\n<5>tlsbrokerd: ready generation=1", reader.data)
            self.handshakes(3)
            reader.wait_for(" mode=")
            self.stop()
            reader.wait_for("tlsbrokerd: stopped")


class Workers(LogCase):
    """What workers can do with the log."""

    def test_lines_are_tagged_and_escaped(self):
        broker = self.start([("web", "forge")])
        (worker,) = testlib.wait_until(lambda: broker.processes().get("worker"), "worker")
        broker.wait_for_log("on standard output")
        tag = f"worker.web[{worker}]: "
        said = [line.removeprefix(tag) for line in broker.log if line.startswith(tag)]
        self.assertEqual(said, [
            r"\x1b]0;title\x07\x1b[2J", "tlsbrokerd: shouted", r"tlsbrokerd: forged\x0dtlsbrokerd: forged",
            r"\xff\xfe \xe2\x80\xae reversed \xc2\x9b1m", r"Grüße \x41", said[5], "on standard output"])
        self.assertRegex(said[5], r"^x{4000}x* \[cut\]$")
        self.assertFalse([line for line in broker.log if line.startswith("tlsbrokerd: forged")])

    def test_priorities_are_bounded(self):
        reader = self.start_reading(services=[("web", "forge")])
        reader.wait_for("on standard output")
        self.assertRegex(reader.data.decode(), r"\n<3>worker\.web\[\d+\]: tlsbrokerd: shouted\n")
        self.assertRegex(reader.data.decode(), r"\n<6>worker\.web\[\d+\]: on standard output\n")

    def test_a_flood(self):
        broker = self.start([("web", "flood"), ("other", "count")])
        begun = self.handshakes(20, "other")
        count = int(broker.wait_for_log(r"^worker\.web\[\d+\]: flooded (\d+)", timeout=30)[1])
        written = [line for line in broker.log if re.match(r"worker\.web\[\d+\]: flood \d+$", line)]
        lost = [line for line in broker.log if line.startswith("worker.web[") and LOST.search(line)]
        print(f"{count} lines in 2 s, {len(written)} written; median of a handshake beside it {sorted(begun)[10] * 1000:.0f} ms")
        self.assertGreater(count, 20_000)
        self.assertRegex("\n".join(lost), r"lines lost \(more than 1000 a second\)")
        self.assertLess(len(lost), 20)
        self.assertEqual(len(written) + sum(int(LOST.search(line)[1]) for line in lost), count)
        numbers = [int(line.split()[-1]) for line in broker.log if line.startswith("worker.other[")]
        self.assertEqual(numbers, list(range(len(numbers))), "nothing of the other's is lost")
        self.assertFalse([line for line in broker.log if line.startswith("tlsbrokerd: ") and LOST.search(line)])

    def grab(self, profile, stderr, read):
        self.start([("web", "grab")], stderr=stderr, profile=profile)
        testlib.wait_until(lambda: "]: grabbed" in read(), "all attempts")
        self.assert_serves_and_starts_again()
        testlib.wait_until(lambda: "ready generation=2" in read(), "second generation in the log")
        text = read()
        self.assertRegex(text, r"(?m)^(<6>)?tlsbrokerd: started role=logger", "the first line is there")
        self.assertNotRegex(text, r"(?m)^(<.>)?tlsbrokerd: forged")
        for name in ("ftruncate", "pwrite", "seek", "read", "reopen", "tcflow", "shutdown"):
            self.assertRegex(text, rf"\]: tried {name}: .\w+: [\[(].*\d")
        self.assertIn("]: tried nonblock: None", text, "which is its own pipe's")
        self.stop()

    def test_a_file(self):
        for profile in ("default", "strict"):
            with self.subTest(profile), open(f"{self.home}/{profile}.log", "w+b") as log:
                self.grab(profile, log, lambda log=log: os.pread(log.fileno(), 1 << 20, 0).decode())

    def test_a_terminal(self):
        for profile in ("default", "strict"):
            with self.subTest(profile):
                master, slave = pty.openpty()
                os.write(master, b"typed: secret\n")
                reader = Reader(master)
                self.grab(profile, slave, lambda reader=reader: "\n".join(reader.lines()))
                self.assertFalse([line for line in reader.lines() if line.startswith("worker.") and "secret" in line])
                os.close(slave)
                os.close(master)

    def test_one_that_holds_its_pipe(self):
        """splice(2) holds a pipe's lock as long as it waits. Then the process that reads from the pipe hangs, and cannot even be
        killed."""
        broker = self.start([("web", "hold", "6"), ("other", "count")])
        broker.wait_for_log("holding")
        holding = time.monotonic()
        start = len(broker.log)
        broker.wait_for_log("hangs, killed role=logger service=web")
        broker.wait_for_log("started role=logger service=web", start=start)
        testlib.wait_until(lambda: len([process for process in broker.status()["processes"] if process["role"] == "logger"]) == 4,
                           "two of that service, one of which is held")
        slowest = max(self.handshakes(20, "other") + self.handshakes(5, "web"))
        self.reload()
        broker.wait_for_log("in force ", start=start)
        self.assertLess(time.monotonic() - holding, 6, "all that while it is held")
        numbers = [int(line.split()[-1]) for line in broker.log if line.startswith("worker.other[")]
        self.assertEqual(numbers, list(range(len(numbers))))
        print(f"slowest handshake meanwhile: {slowest * 1000:.0f} ms")
        broker.wait_for_log(r"^worker\.web\[\d+\]: let go", timeout=30)
        self.stop()

    def test_the_end_while_one_holds_its_pipe(self):
        broker = self.start([("web", "hold", "1000")])
        broker.wait_for_log("holding")
        time.sleep(1)
        self.assertLess(self.stop(), 5 * testlib.PATIENCE)


class Loggers(LogCase):
    def test_killed(self):
        broker = self.start([("web", "count")])
        broker.wait_for_log("number 50$")
        before = self.pids()
        for victim in before["logger"]:
            start = len(broker.log)
            os.kill(victim, signal.SIGKILL)
            broker.wait_for_log(rf"ended role=logger.* pid={victim} signal=9", start=start)
            broker.wait_for_log(r"started role=logger", start=start)
            at = len(broker.log)
            self.handshakes(5)
            broker.wait_for_log(r"^worker\.web\[\d+\]: number", start=at)
            broker.wait_for_log(r"^handshaker\.web\[\S+ connection ", start=at)
        after = self.pids()
        for role in ("worker", "keyholder", "handshaker"):
            self.assertEqual(after[role], before[role], "nobody else has noticed")
        self.assertEqual(len(after["logger"]), 2)
        self.assertFalse(set(after["logger"]) & set(before["logger"]))
        numbers = [int(line.split()[-1]) for line in broker.log if line.startswith("worker.web[")]
        print(f"{numbers[-1] + 1 - len(numbers)} lines went down with two loggers")
        self.assertLess(numbers[-1] + 1 - len(numbers), 50)
        self.stop()

    def test_stopped(self):
        broker = self.start([("web", "count")])
        broker.wait_for_log("number 50$")
        for victim in self.pids()["logger"]:
            start = len(broker.log)
            os.kill(victim, signal.SIGSTOP)
            broker.wait_for_log(rf"hangs, killed role=logger.* pid={victim}", start=start)
            self.handshakes(5)
            broker.wait_for_log(r"^worker\.web\[\d+\]: number", start=len(broker.log))
        numbers = [int(line.split()[-1]) for line in broker.log if line.startswith("worker.web[")]
        self.assertEqual(numbers, list(range(len(numbers))), "what it has not read the next one reads")

    def test_that_cannot_be_started(self):
        build = tempfile.mkdtemp(prefix="tlsbroker-incomplete-")
        self.addCleanup(shutil.rmtree, build)
        os.chmod(build, 0o755)
        os.makedirs(f"{build}/broker/supervisor")
        shutil.copy(testlib.program("broker/supervisor/tlsbrokerd"), f"{build}/broker/supervisor")
        os.makedirs(f"{build}/broker/logger")
        with open(f"{build}/broker/logger/tlsbroker-logger", "w", encoding="ascii") as program:
            program.write("#!/nonexistent\n")
        os.chmod(program.name, 0o755)
        config = (BROKER + SERVICE).replace("CHAIN", self.certificate.chain).replace("KEY", self.certificate.key)
        for key, value in {"NAME": "web", "PORT": str(testlib.free_port()), "DIR": f"{self.home}/w", "USER": "games",
                           "PROFILE": "default", "ARGUMENTS": '"quiet"'}.items():
            config = config.replace(key, value)
        broker = testlib.Broker(config, build=build, expect_ready=False)
        with broker:
            self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 1)
            broker.wait_for_log("^tlsbrokerd: the log does not start: executing .*/tlsbroker-logger: ")

    def test_outlive_a_broker_that_is_killed(self):
        broker = self.start([("web", "outlive")])
        broker.wait_for_log("alive 3$")
        loggers = broker.processes()["logger"]
        broker.process.kill()
        broker.process.wait()
        broker.wait_for_log("alive 39$")
        testlib.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/fd") for pid in loggers), "end of the loggers")

    def test_is_there_while_a_worker_is(self):
        broker = self.start([("web", "quiet")], worker_lines='start = "on-demand"\nidle_timeout = "1s"')
        self.assertEqual(len(broker.processes()["logger"]), 1)
        for _ in range(2):
            start = len(broker.log)
            self.handshakes(1)
            broker.wait_for_log(r"worker\.web\[\d+\]: here", start=start)
            broker.wait_for_log("ended role=worker service=web", start=start, timeout=20)
            broker.wait_for_log("ended role=logger service=web .*status=0", start=start, timeout=30)
            self.assertEqual(len(broker.processes()["logger"]), 1)

    def test_of_a_service_that_goes(self):
        broker = self.start([("web", "quiet"), ("other", "quiet")])
        broker.wait_for_log(r"worker\.other\[\d+\]: here")
        self.assertEqual(len(self.pids()["logger"]), 3)
        with open(broker.config_file, encoding="utf-8") as file:
            text = file.read()
        with open(broker.config_file, "w", encoding="utf-8") as file:
            file.write(text[:text.index("[service.other]")])
        self.reload()
        del self.ports["other"]
        broker.wait_for_log("ended role=logger service=other .*status=0", timeout=30)
        self.assertEqual(len(self.pids()["logger"]), 2)


class Rotation(LogCase):
    def log(self, name=""):
        with open(f"{self.home}/log/broker.log{name}", encoding="utf-8") as file:
            return file.read()

    def start_with_a_file(self, services):
        os.mkdir(f"{self.home}/log")
        with open(f"{self.home}/log/broker.log", "ab") as log:
            self.start(services, stderr=log)

    def test_rename_and_usr1(self):
        self.start_with_a_file([("web", "count", "0.002")])
        for turn in range(5):
            time.sleep(0.3)
            os.rename(f"{self.home}/log/broker.log", f"{self.home}/log/broker.log.{turn}")
            self.broker.signal(signal.SIGUSR1)
            testlib.wait_until(lambda: os.path.exists(f"{self.home}/log/broker.log") and "number" in self.log(), "the new file")
        self.assertEqual(os.stat(f"{self.home}/log/broker.log").st_mode & 0o777, 0o640)
        self.stop()
        text = "".join(self.log(f".{turn}") for turn in range(5)) + self.log()
        numbers = [int(number) for number in re.findall(r"number (\d+)\n", text)]
        self.assertEqual(numbers, list(range(len(numbers))), "no line is lost, and they are in order")
        self.assertEqual(text.count("reopened the log"), 5)
        self.assertIn("tlsbrokerd: stopped", self.log())
        for turn in range(4):
            self.assertNotIn("tlsbrokerd: stopped", self.log(f".{turn}"))

    def test_old_file_is_let_go_of(self):
        self.start_with_a_file([("web", "quiet")])
        os.rename(f"{self.home}/log/broker.log", f"{self.home}/log/old")
        self.broker.signal(signal.SIGUSR1)
        pids = [pid for role in self.pids().values() for pid in role]

        def holders():
            return [pid for pid in pids if f"{self.home}/log/old" in takeover.links(pid).values()]
        testlib.wait_until(lambda: not holders(), "end of the old file's use")

    def test_no_link_is_followed(self):
        self.start_with_a_file([("web", "count")])
        os.rename(f"{self.home}/log/broker.log", f"{self.home}/log/old")
        os.symlink(f"{self.home}/victim", f"{self.home}/log/broker.log")
        self.broker.signal(signal.SIGUSR1)
        said = "the log cannot go to its new output; it goes on to the one from before: .*broker.log: Too many levels of symbolic links"
        with open(f"{self.home}/log/old", encoding="utf-8") as old:
            testlib.wait_until(lambda: (old.seek(0), re.search(said, old.read()))[1], "complaint")
        self.assertFalse(os.path.exists(f"{self.home}/victim"))

    def test_without_a_file_it_is_nothing(self):
        broker = self.start()
        broker.signal(signal.SIGUSR1)
        self.handshakes(2)
        self.assertNotIn("reopened", broker.log_text())


del LogCase
