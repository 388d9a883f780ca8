"""Workers that attach themselves: who may, that they serve, that they give up the keys first, that they come back
after a restart of the broker, and what the broker does with those who break the rules."""

import array
import errno
import grp
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
import unittest

import broker as testlib

WORKER = os.path.join(testlib.SOURCE, "tests/testlib/attached_worker.py")
NOBODY, WWW = pwd.getpwnam("nobody"), pwd.getpwnam("www-data")
GAMES = grp.getgrnam("games").gr_gid
CONFIG = """
[certificate.one]
chain = "{chain}"
key = "{key}"
[service.echo]
listen = ["127.0.0.1:{port}"]
certificates = ["one"]
{allow}
"""


class Worker:
    """attached_worker.py and the lines that it says."""

    def __init__(self, path, uid=WWW.pw_uid, gid=WWW.pw_gid, groups=()):
        self.process = subprocess.Popen(
            [sys.executable, WORKER, path, str(uid), str(gid), *map(str, groups)], stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, PYTHONPATH=os.path.dirname(WORKER), **testlib.sanitizer_environment()))
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.strip())
                self.changed.notify_all()

    def wait_for(self, wanted, times=1):
        with self.changed:
            if not self.changed.wait_for(lambda: self.lines.count(wanted) >= times, 10 * testlib.PATIENCE):
                raise AssertionError(f"not {times} times {wanted!r}: {self.lines}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()


class Attach(unittest.TestCase):
    def start(self, allow):
        self.port = testlib.free_port()
        broker = testlib.Broker("")
        self.certificate = testlib.Certificate(broker.directory)
        broker.write_config(CONFIG.replace("{chain}", self.certificate.chain).replace("{key}", self.certificate.key)
                            .replace("{port}", str(self.port)).replace("{allow}", allow))
        self.path = os.path.join(broker.directory, "run", "echo.sock")
        return self.enterContext(broker)

    def request(self):
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) as tls:
            return tls.recv(100)

    def test_serves_and_has_given_up_the_keys(self):
        broker = self.start('allow_users = ["www-data"]')
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            worker.wait_for(f"keys after {errno.EPERM}")
            self.assertNotIn(f"keys before {errno.EPERM}", worker.lines)
            self.assertEqual([self.request() for _ in range(3)], [b"echo\n"] * 3)
            broker.wait_for_log(rf"attached a worker service=echo pid={worker.process.pid} uid={WWW.pw_uid}")
        broker.wait_for_log("detached a worker service=echo")

    def test_connections_wait_for_the_first_one(self):
        broker = self.start('allow_users = ["www-data"]')
        found = []
        client = threading.Thread(target=lambda: found.append(self.request()))
        client.start()
        broker.wait_for_log("mode=")
        with Worker(self.path):
            client.join(10 * testlib.PATIENCE)
        self.assertEqual(found, [b"echo\n"])

    def test_by_group_primary_or_supplementary(self):
        self.start('allow_groups = ["games"]')
        with Worker(self.path, gid=GAMES) as worker:
            worker.wait_for("attach 0 ok")
        with Worker(self.path, groups=[7, GAMES]) as worker:
            worker.wait_for("attach 0 ok")

    def test_others_are_refused(self):
        broker = self.start('allow_users = ["www-data"]\nallow_groups = ["games"]')
        with Worker(self.path, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid) as worker:
            worker.wait_for("attach -13 Permission denied")
        broker.wait_for_log(f"refused a worker .*uid={NOBODY.pw_uid} why=not-allowed")

    def test_root_may_without_a_list(self):
        self.start("")
        with Worker(self.path, uid=0, gid=0) as worker:
            worker.wait_for("attach 0 ok")

    def test_comes_back_after_a_restart(self):
        broker = self.start('allow_users = ["www-data"]')
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            for away in (0, 1, 0):
                broker.restart_after_kill(away)
                self.assertEqual(self.request(), b"echo\n")
                broker.wait_for_log(rf"attached a worker service=echo pid={worker.process.pid} uid={WWW.pw_uid}")
            self.assertEqual(worker.lines.count("attach 0 ok"), 1, "by itself")

    def test_comes_back_to_other_rules(self):
        broker = self.start('allow_users = ["www-data"]')
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            with open(broker.config_file, encoding="utf-8") as file:
                text = file.read()
            broker.write_config(text.replace("www-data", "nobody"))
            broker.restart_after_kill()
            worker.wait_for("accept Permission denied")
            seconds = testlib.cpu_seconds(worker.process.pid)
            time.sleep(3)
            self.assertLess(testlib.cpu_seconds(worker.process.pid) - seconds, 1, "it asks with pauses")
            broker.write_config(text)
            broker.restart_after_kill()
            self.assertEqual(self.request(), b"echo\n")

    def test_the_lists_follow_a_reload(self):
        broker = self.start('allow_users = ["www-data"]')
        with open(broker.config_file, encoding="utf-8") as file:
            text = file.read()
        with Worker(self.path) as old:
            old.wait_for("attach 0 ok")
            broker.write_config(text.replace("www-data", "nobody"))
            mark = len(broker.log)
            broker.signal(1)
            broker.wait_for_log("ready generation=2", start=mark)
            with Worker(self.path) as worker:
                worker.wait_for("attach -13 Permission denied")
            self.assertEqual(self.request(), b"echo\n", "who is attached stays")

    def test_the_name_goes_with_the_broker(self):
        broker = self.start("")
        self.assertTrue(os.path.exists(self.path))
        broker.signal(15)
        self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 0)
        self.assertFalse(os.path.exists(self.path))

    def test_who_talks_is_put_out(self):
        broker = self.start("")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as plain:
            plain.settimeout(10 * testlib.PATIENCE)
            plain.connect(self.path)
            header, control, _, _ = plain.recvmsg(100, socket.CMSG_SPACE(4 * 4))
            self.assertEqual(header, b"TLSBROKR\x01\x00" + bytes(6))
            queue = array.array("i", control[0][2])
            self.assertEqual(len(queue), 2, "and the socket for requests")
            os.close(queue[0])
            plain.send(b"x" * 1000)
            with self.assertRaises(ConnectionResetError):  # closed with what was sent unread
                plain.recv(100)
        broker.wait_for_log("detached a worker")

    def test_a_flood_of_those_who_may_not(self):
        broker = self.start('allow_users = ["www-data"]')
        flood = ("import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
                 "for _ in range(3000):\n"
                 "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                 "    s.connect(sys.argv[1])\n"
                 "    assert s.recv(100)[9] == 1\n"
                 "    s.close()\n")
        before = len(os.listdir(f"/proc/{broker.process.pid}/fd"))
        subprocess.run([sys.executable, "-c", flood, self.path], check=True, timeout=60 * testlib.PATIENCE)
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            self.assertEqual(self.request(), b"echo\n")
        testlib.wait_until(lambda: len(os.listdir(f"/proc/{broker.process.pid}/fd")) <= before, "fd back")
        self.assertLess(len([line for line in broker.log if "refused a worker" in line]), 20, "the log stays readable")


class Check(unittest.TestCase):
    def test_lists_beside_a_worker_are_an_error(self):
        broker = testlib.Broker("", expect_ready=False)
        certificate = testlib.Certificate(broker.directory)
        broker.write_config(CONFIG.replace("{chain}", certificate.chain).replace("{key}", certificate.key)
                            .replace("{port}", "1").replace("{allow}", 'allow_users = ["www-data"]') +
                            '[service.echo.worker]\ncommand = ["/bin/true"]\nuser = "www-data"\n')
        with broker:
            self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 78)
            broker.wait_for_log(r"broker\.toml:\d+:\d+: workers cannot attach to a service that has a section 'worker'")


if __name__ == "__main__":
    unittest.main()
