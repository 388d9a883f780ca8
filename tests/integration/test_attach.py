# SPDX-License-Identifier: Apache-2.0
"""Workers that attach themselves: who may, that they serve, that they give up the keys first, that they come back
after a restart of the broker, what the broker does with those who break the rules, and what they can do to each other."""

import array
import contextlib
import errno
import grp
import os
import platform
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import broker as testlib

HERE = os.path.join(testlib.SOURCE, "tests/testlib")
NOBODY, WWW, IRC = (pwd.getpwnam(name) for name in ("nobody", "www-data", "irc"))
GAMES = grp.getgrnam("games").gr_gid
SYSTEM_CALL_NUMBERS = unittest.skipUnless(platform.machine() == "x86_64", "needs x86-64")
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
    """Runs attached_worker.py and keeps the lines that it prints."""

    program = "attached_worker.py"

    def __init__(self, path, uid=WWW.pw_uid, gid=WWW.pw_gid, groups=()):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, self.program), path, str(uid), str(gid), *map(str, groups)],
            stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, PYTHONPATH=HERE, **testlib.sanitizer_environment()))
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


class Spy(Worker):
    """Runs spying_worker.py, which attaches as another user than the other workers."""

    program = "spying_worker.py"

    def __init__(self, path, how):
        super().__init__(path, IRC.pw_uid, IRC.pw_gid, [how])


def user_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("Uid:")).split()[1])


def connects(path, uid, gid=65534, groups=()):
    """0, or the error of connect(2), for a process with this user and these groups, and no other right."""
    program = ("import os, socket, sys\nuid, gid, *groups = map(int, sys.argv[2:])\n"
               "os.setgroups(groups); os.setgid(gid); os.setuid(uid)\n"
               "with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s: print(s.connect_ex(sys.argv[1]))\n")
    done = subprocess.run([sys.executable, "-c", program, path, *map(str, (uid, gid, *groups))], check=True, text=True,
                          stdout=subprocess.PIPE, timeout=30 * testlib.PATIENCE)
    return int(done.stdout)


class AttachCase(unittest.TestCase):
    def make_broker(self):
        return testlib.Broker("")

    def start(self, allow):
        self.port = testlib.free_port()
        broker = self.make_broker()
        self.certificate = testlib.Certificate(broker.directory)
        broker.write_config(CONFIG.replace("{chain}", self.certificate.chain).replace("{key}", self.certificate.key)
                            .replace("{port}", str(self.port)).replace("{allow}", allow))
        self.path = os.path.join(broker.directory, "run", "echo.sock")
        return self.enterContext(broker)

    def request(self):
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) as tls:
            return tls.recv(100)

    def reload(self, broker, text):
        broker.write_config(text)
        mark = len(broker.log)
        broker.signal(1)
        broker.wait_for_log("in force", start=mark)

    def config(self, broker):
        with open(broker.config_file, encoding="utf-8") as file:
            return file.read()


class Attach(AttachCase):
    def test_serves_and_has_given_up_the_keys(self):
        broker = self.start('allow_users = ["www-data"]')
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            worker.wait_for(f"keys after {errno.EPERM}")
            self.assertNotIn(f"keys before {errno.EPERM}", worker.lines)
            self.assertEqual([self.request() for _ in range(3)], [b"echo\n"] * 3)
            broker.wait_for_log(rf"attached a worker service=echo pid={worker.process.pid} uid={WWW.pw_uid}")
        broker.wait_for_log("detached a worker service=echo")

    def test_two_that_wait_by_epoll(self):
        """tlsbroker(3): without EPOLLEXCLUSIVE, which an attached queue's descriptor does not take."""
        self.start('allow_users = ["www-data"]')
        with Worker(self.path, groups=["epoll"]) as first, Worker(self.path, groups=["epoll"]) as second:
            for worker in (first, second):
                worker.wait_for(f"exclusive {errno.EINVAL}")
            self.assertEqual([self.request() for _ in range(20)], [b"echo\n"] * 20)
            served = lambda: (first.lines + second.lines).count("served")
            testlib.wait_until(lambda: served() == 20, "each served once")

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
        self.assertEqual(connects(self.path, NOBODY.pw_uid), errno.EACCES, "the kernel refuses them")
        self.assertNotIn("refused a worker", broker.log_text())

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
            broker.write_config(text.replace("www-data", "irc"))
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
            broker.write_config(text.replace("www-data", "irc"))
            mark = len(broker.log)
            broker.signal(1)
            broker.wait_for_log("in force", start=mark)
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

    def test_one_too_many(self):
        """1,024 may be attached to a service at once."""
        broker = self.start("")
        with contextlib.ExitStack() as stack:
            for wanted in [0] * 1024 + [2]:
                worker = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                worker.settimeout(10 * testlib.PATIENCE)
                worker.connect(self.path)
                self.assertEqual(worker.recv(100)[9], wanted)
            self.assertEqual(len(broker.status()["services"][0]["attached"]), 1024)
        broker.wait_for_log("refused a worker .* why=too-many-attached")
        testlib.wait_until(lambda: broker.status()["services"][0]["attached"] == [], "all detached")

    def served_beside(self, spy):
        """What a client gets that connects while the spy is the only worker."""
        spy.wait_for("attached")
        found = []
        client = threading.Thread(target=lambda: found.append(self.request_all()))
        client.start()
        spy.wait_for("recvfrom True")
        testlib.wait_until(lambda: any(line.startswith("copy") for line in spy.lines), "its look at the queue")
        with Worker(self.path):
            client.join(10 * testlib.PATIENCE)
        return found

    def request_all(self):
        with testlib.tls_connect(self.port, testlib.tls_context(self.certificate)) as tls:
            return tls.makefile("rb").read()

    @SYSTEM_CALL_NUMBERS
    def test_a_worker_by_the_library_cannot_copy_connections(self):
        self.start('allow_users = ["www-data", "irc"]')
        with Spy(self.path, "library") as spy:
            self.assertEqual(self.served_beside(spy), [b"echo\n"])
            self.assertEqual(spy.lines, ["library 0", *["recvmsg EPERM", "recvmmsg EPERM"] * 2, "attached",
                                         "recvfrom True", "copy EPERM"])

    @SYSTEM_CALL_NUMBERS
    def test_a_worker_without_a_filter_can_copy_them(self):
        """PROTOCOL.md section 1: whoever is in allow_users is trusted with the connections of all the others there."""
        self.start('allow_users = ["www-data", "irc"]')
        with Spy(self.path, "bare") as spy:
            self.assertEqual(self.served_beside(spy), [b"spy echo\n"])


@unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else, and to mount")
class WithoutLists(AttachCase):
    """The runtime directory is on a file system without access control lists: everybody can connect, and a user who is not
    allowed gets an answer that says so."""

    def make_broker(self):
        directory = tempfile.mkdtemp(prefix="tlsbroker-no-lists-")
        self.addCleanup(os.rmdir, directory)
        subprocess.run(["mount", "-t", "ramfs", "none", directory], check=True, timeout=30)
        self.addCleanup(subprocess.run, ["umount", "--lazy", directory], check=True, timeout=30)
        return testlib.Broker("", directory=directory)

    def test_others_are_refused(self):
        broker = self.start('allow_users = ["www-data"]\nallow_groups = ["games"]')
        with Worker(self.path, uid=NOBODY.pw_uid, gid=NOBODY.pw_gid) as worker:
            worker.wait_for("attach -13 Permission denied")
        broker.wait_for_log(f"refused a worker .*uid={NOBODY.pw_uid} why=not-allowed")
        broker.wait_for_log("echo.sock cannot have an access control list")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o666)

    def test_nobody_may_connect_where_nobody_is_allowed(self):
        self.start("")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

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


@unittest.skipUnless(os.geteuid() == 0, "needs root to be somebody else")
class Permissions(AttachCase):
    """Which users can connect at all."""

    MAIL, LP, STAFF = grp.getgrnam("mail").gr_gid, grp.getgrnam("lp").gr_gid, grp.getgrnam("staff").gr_gid
    DAEMON = pwd.getpwnam("daemon").pw_uid

    def check(self, *may_not, may):
        for who in may:
            self.assertEqual(connects(self.path, *who), 0, who)
        for who in may_not:
            self.assertEqual(connects(self.path, *who), errno.EACCES, who)

    def test_nobody_without_a_list(self):
        self.start("")
        self.check((NOBODY.pw_uid,), (WWW.pw_uid, WWW.pw_gid), may=[(0, 0)])
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_two_users_and_two_groups(self):
        self.start('allow_users = ["www-data", "daemon"]\nallow_groups = ["games", "mail"]')
        self.check((NOBODY.pw_uid,), (NOBODY.pw_uid, self.LP), (NOBODY.pw_uid, 0), (NOBODY.pw_uid, 65534, (self.LP, self.STAFF)),
                   may=[(0, 0), (WWW.pw_uid,), (self.DAEMON,), (NOBODY.pw_uid, GAMES), (NOBODY.pw_uid, self.MAIL),
                        (NOBODY.pw_uid, 65534, (7, GAMES)), (WWW.pw_uid, GAMES)])

    def test_a_name_may_be_there_twice(self):
        self.start('allow_users = ["www-data", "www-data", "root"]\nallow_groups = ["games", "games", "root"]')
        self.check((NOBODY.pw_uid,), may=[(WWW.pw_uid,), (NOBODY.pw_uid, GAMES)])

    def test_they_follow_a_reload(self):
        broker = self.start('allow_users = ["www-data"]')
        text = self.config(broker)
        inode = os.stat(self.path).st_ino
        self.check((self.DAEMON,), (NOBODY.pw_uid, GAMES), may=[(WWW.pw_uid,)])
        self.reload(broker, text.replace('"www-data"', '"daemon"') + 'allow_groups = ["games"]\n')
        self.check((WWW.pw_uid,), may=[(self.DAEMON,), (NOBODY.pw_uid, GAMES)])
        with Worker(self.path, uid=self.DAEMON) as worker:
            worker.wait_for("attach 0 ok")
        self.reload(broker, text.replace('allow_users = ["www-data"]', ""))
        self.check((WWW.pw_uid,), (self.DAEMON,), (NOBODY.pw_uid, GAMES), may=[(0, 0)])
        self.assertEqual(os.stat(self.path).st_ino, inode, "it is the same socket")

    def test_a_default_list_of_the_directory_lets_nobody_in(self):
        broker = self.start('allow_users = ["www-data"]')
        broker.signal(15)
        self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 0)
        give_everybody = struct.pack("<I" + "HHI" * 6, 2, 1, 7, 2**32 - 1, 2, 7, NOBODY.pw_uid, 4, 7, 2**32 - 1,
                                     8, 7, GAMES, 16, 7, 2**32 - 1, 32, 7, 2**32 - 1)  # linux/posix_acl_xattr.h
        os.setxattr(os.path.dirname(self.path), "system.posix_acl_default", give_everybody)
        broker.restart_after_kill()
        self.check((NOBODY.pw_uid,), (NOBODY.pw_uid, GAMES), (self.DAEMON,), may=[(WWW.pw_uid,)])
        status = os.path.join(os.path.dirname(self.path), "status")
        self.assertEqual((os.stat(status).st_mode & 0o777, connects(status, NOBODY.pw_uid)), (0o600, errno.EACCES))

    def test_names_come_back(self):
        """The broker makes its sockets again when somebody has removed the runtime directory."""
        broker = self.start('allow_users = ["www-data"]')
        with Worker(self.path) as worker:
            worker.wait_for("attach 0 ok")
            shutil.rmtree(os.path.dirname(self.path))
            testlib.wait_until(lambda: os.path.exists(self.path), "SERVICE.sock")
            self.check((NOBODY.pw_uid,), may=[(WWW.pw_uid,)])
            status = testlib.wait_until(lambda: self.status_or_none(broker), "status")
            self.assertEqual([a["pid"] for a in status["services"][0]["attached"]], [worker.process.pid])
            self.assertEqual(self.request(), b"echo\n")

    @staticmethod
    def status_or_none(broker):
        try:
            return broker.status()
        except subprocess.CalledProcessError:
            return None

    def test_another_user_of_the_broker(self):
        """A reload changes the broker's user: its porters are then replaced by those of the new user."""
        broker = self.start('allow_users = ["www-data"]')
        self.reload(broker, self.config(broker).replace('user = "nobody"', 'user = "daemon"'))
        testlib.wait_until(lambda: {user_of(pid) for pid in broker.processes()["porter"]} == {self.DAEMON}, "porters of the new user")
        with Worker(self.path) as worker:
            testlib.wait_until(lambda: worker.lines.count("attach 0 ok"), "attached")

    def test_without_root(self):
        """The user who started the broker may attach, and so may those whom the configuration allows, and root."""
        self.port = testlib.free_port()
        broker = testlib.Broker("", user=self.DAEMON)
        self.certificate = testlib.Certificate(broker.directory)
        os.chown(self.certificate.key, self.DAEMON, self.DAEMON)
        broker.write_config(CONFIG.replace("{chain}", self.certificate.chain).replace("{key}", self.certificate.key)
                            .replace("{port}", str(self.port)).replace("{allow}", 'allow_users = ["www-data"]'))
        self.path = os.path.join(broker.directory, "run", "echo.sock")
        self.enterContext(broker)
        self.check((NOBODY.pw_uid,), may=[(0, 0), (self.DAEMON,), (WWW.pw_uid,)])
        for uid in (self.DAEMON, WWW.pw_uid):
            with Worker(self.path, uid=uid) as worker:
                worker.wait_for("attach 0 ok")
                self.assertEqual(self.request(), b"echo\n")


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
