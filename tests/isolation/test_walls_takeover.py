# SPDX-License-Identifier: Apache-2.0
"""A handshaker or the keyholder of one service is taken over: what can it do to the supervisor and to another service, and what
does it have of the other service? What it can do at all is in test_takeover.py."""

import contextlib
import errno
import fcntl
import os
import pwd
import re
import socket
import subprocess
import tempfile
import time
import unittest

import broker as testlib
import key_search
import takeover
import unix_peers
import walls
from takeover import Killed, Taken
from test_takeover import ECDSA_P256, TLS13_SERVER, SigningChannel

SIGNED, REFUSED, CERTIFICATE = b"\2", b"\3", 1  # protocol/signing.h


class Attacks(walls.Walls):
    def setUp(self):
        if testlib.sanitized():
            self.skipTest("a sanitizer's run-time changes what is killed")

    def pid(self, role):
        return next(pid for name, pid in self.service.pids("attacked") if name.startswith(role))

    def test_a_handshaker_sends_a_socket_whose_close_waits(self):
        """It tries each of its sockets: only the one to its workers, to whom it may send sockets, takes the descriptor."""
        self.start()
        with self.under(attacker := self.attacker("taken", self.pid("handshaker"), user=0)):
            testlib.wait_until(lambda: len(attacker.lines) > 3, "attempts")
        accepted = [line for line in attacker.lines if "accepted" in line]
        self.assertEqual(len(accepted), 1, attacker.lines)
        self.assertIn(f"3 refused {errno.EPIPE}", attacker.lines)

    def test_a_handshaker_stops_its_listener(self):
        """Each handshaker that takes its place tries again, and is killed for that."""
        self.start()
        with self.under():
            for number in range(3):
                started = self.service.wait_for_log(rf"started role=handshaker\[{number}\] service=attacked .* pid=(\d+)")
                with Taken(int(started[1])) as process, self.assertRaises(Killed):
                    for fd in unix_peers.sockets(process.pid):
                        process.call(takeover.SHUTDOWN, fd, socket.SHUT_RD)

    def test_a_handshaker_keeps_a_listener_whose_address_becomes_the_others(self):
        """It can accept nothing more with its copy, and the other service's socket does not become a blocking one."""
        self.start()
        ports = self.service.ports
        pid = self.pid("handshaker")
        for listener, copy in takeover.copied_sockets(pid):
            if copy.family == socket.AF_INET and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                break
        with Taken(pid) as process:
            kept = process.call(takeover.FCNTL, listener, fcntl.F_DUPFD_CLOEXEC, 100)
            self.assertGreaterEqual(kept, 100)
        ports["attacked"], ports["other"] = ports["other"], ports["attacked"]
        with takeover.copy_of_socket(pid, kept) as copy:
            self.service.reload("in force .* started=attacked,other removed=-$")
            fcntl.fcntl(copy, fcntl.F_SETFL, os.O_RDWR)
            with self.assertRaises(OSError) as refused:
                copy.accept()
            self.assertEqual(refused.exception.errno, errno.EINVAL)
            self.handshakes(20, 0)

    def test_a_handshaker_floods_the_supervisor(self):
        """The supervisor reads only so many of its reports, and then ignores it."""
        self.start()
        with self.under(self.attacker("reports", self.pid("handshaker"), user=0)):
            begun, used = time.monotonic(), testlib.cpu_seconds(self.service.process.pid)
            self.wait_for_hang()
            used = testlib.cpu_seconds(self.service.process.pid) - used
            print(f"\n  the supervisor used {used / (time.monotonic() - begun) * 100:.0f} % of a processor", flush=True)

    def test_a_handshaker_and_a_worker_hold_its_pipes(self):
        """The handshaker has the pipes, and the worker can call splice(2). The processes that read from these pipes hang: a
        logger, and the keyholder of this service."""
        self.start()
        with self.under(self.attacker("pipes", self.pid("handshaker"), user=0)):
            self.service.wait_for_log(r"hangs, killed role=logger pid=\d+ .* state=D", timeout=20)
            # The handshaker is killed for that, unless the service already has another generation because its keyholder is
            # missing.
            self.service.wait_for_log(r"(another process holds the pipe of its log, killed|ended) role=handshaker\[0\] service=attacked")
            start = len(self.service.log)
            self.service.wait_for_log(r"^handshaker\.other\[\S+ connection ", start=start)
            self.wait_for_hang("keyholder")
            # No other logger reads from that pipe, though an attacker still holds it.
            time.sleep(3)
            self.assertEqual(sum("hangs, killed role=logger" in line for line in self.service.log), 1)

    def test_a_handshaker_and_a_worker_hold_its_sockets(self):
        """They hold the locks of these sockets while the service gets another address and another queue length, which needs these
        locks."""
        walls.require_silent_files()
        self.start()
        files = walls.SilentFiles("read")
        with self.under(files, self.attacker("seize", self.pid("handshaker"), files.path, user=0)):
            self.service.ports["attacked"] = testlib.free_port()
            self.service.lines["attacked"] += "backlog = 77\n"
            begun = time.monotonic()
            self.service.reload("in force .* started=attacked removed=-$")
            print(f"\n  reload: {time.monotonic() - begun:.2f} s", flush=True)

    def test_a_handshaker_and_a_worker_hold_a_listener_whose_address_becomes_anothers(self):
        """The other service waits for the address, and gets it once they let go of the listener."""
        walls.require_silent_files()
        self.start()
        files = walls.SilentFiles("read")
        ports = self.service.ports
        with self.under(files, self.attacker("seize", self.pid("handshaker"), files.path, user=0)):
            ports["third"], ports["attacked"] = ports["attacked"], testlib.free_port()
            self.service.services["third"] = "never"
            self.service.reload("in force .* started=attacked,third removed=-$")
            self.assertEqual(self.service.service_status("third")["not_listening"], [f"127.0.0.1:{ports['third']}"])

    def recovers(self):
        if "third" in self.service.ports:
            testlib.wait_until(lambda: self.service.service_status("third")["not_listening"] == [], "listener", walls.RECOVERY)
            with self.service.connect("third", context=self.context, server_name="other.test") as tls:
                tls.sendall(b"PID\n")
                self.assertTrue(tls.recv(100))
        super().recovers()

    def test_a_handshaker_uses_up_what_its_user_may_have_in_flight(self):
        """Here another process of the handshaker's user does it: the attacked service has a user of its own, so that the other
        service does not suffer."""
        user = pwd.getpwnam("irc")
        self.start(lines=f'user = "{user.pw_name}"\n')
        handshaker = self.pid("handshaker")
        with open(f"/proc/{handshaker}/status", encoding="utf-8") as status:
            self.assertIn(f"\nUid:\t{user.pw_uid}\t", status.read())
        with open(f"/proc/{handshaker}/limits", encoding="utf-8") as limits:
            limit = re.search(r"Max open files +(\d+) ", limits.read())[1]
        with self.under(attacker := self.attacker("flight", limit, user=user.pw_uid)):
            self.assertIn(f"refused {errno.ETOOMANYREFS}", attacker.lines)
            with contextlib.suppress(OSError), self.service.connect("attacked", context=self.context, timeout=60) as tls:
                self.assertEqual(tls.recv(100), b"")
            self.service.wait_for_log(r"connection lost, it cannot be handed off conn=\S+ service=attacked peer=\S+ why=.Too many references")

    def test_processes_that_are_killed_again_and_again(self):
        self.start()
        with self.under():
            end, killed = time.monotonic() + 4 * walls.SLOW, 0
            while time.monotonic() < end:
                for _, pid in self.service.pids("attacked"):
                    testlib.kill_process(pid)
                    killed += 1
                time.sleep(0.02)
            self.assertGreater(killed, 4)
        print(f"  {killed} killed", flush=True)


class WhatItHas(walls.Walls):
    """What a process that was taken over has of the other service, which has a relayed connection under way and has given a
    ticket."""

    def setUp(self):
        if testlib.sanitized():
            self.skipTest("a sanitizer's run-time changes what is killed, and the memory is too large to be read")
        self.start()
        self.of = {(name, role.partition("[")[0]): pid for name in ("attacked", "other") for role, pid in self.service.pids(name)}

    def session_of_other(self):
        """Opens a connection that goes on; returns its master secret, and the name of the key of its ticket."""
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.service.ports['other']}", "-servername", "other.test", "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        self.addCleanup(client.stdin.close)
        text = ""
        while "Extended master secret" not in text:
            line = client.stdout.readline()
            self.assertTrue(line, text)
            text += line
        secret = re.search(r"Master-Key: ([0-9A-F]{96})", text)[1]
        ticket = re.search(r"TLS session ticket:\n +0000 - ((?:[0-9a-f]{2}[ -]){16})", text)[1]
        return bytes.fromhex(secret), bytes.fromhex(ticket.replace("-", " "))

    def has(self, who, secret):
        return any(secret in data for _, _, data in key_search.readable(self.of[who]))

    def test_nothing_of_the_other_sessions_and_tickets(self):
        secrets = self.session_of_other()
        for what, secret in zip(("master secret", "key of tickets"), secrets):
            self.assertTrue(self.has(("other", "handshaker"), secret), f"the search does not find the {what}")
            for role in ("handshaker", "keyholder"):
                self.assertFalse(self.has(("attacked", role), secret), f"{what} in the {role}")

    def test_nothing_of_the_other_key(self):
        attacked, other = (key_search.Secrets(one.key) for one in self.service.certificates)
        self.assertNotEqual(key_search.search(self.of["attacked", "keyholder"], attacked), [], "the search finds nothing")
        for role in ("handshaker", "keyholder"):
            self.assertEqual(key_search.search(self.of["attacked", role], other), [])

    def test_no_descriptor_of_the_other(self):
        """The services share no socket: no listener, queue, socket for requests or channel."""
        of_attacked, of_other = ({inode for (name, _), pid in self.of.items() if name == wanted
                                  for inode in unix_peers.sockets(pid).values()} for wanted in ("attacked", "other"))
        self.assertGreater(min(len(of_attacked), len(of_other)), 4)
        self.assertEqual(of_attacked & of_other, set())
        ports = set()
        for _, copy in takeover.copied_sockets(self.of["attacked", "handshaker"]):
            if copy.family == socket.AF_INET:
                ports.add(copy.getsockname()[1])
        self.assertEqual(ports, {self.service.ports["attacked"]})

    def test_no_descriptor_into_another_process(self):
        """The sockets that take descriptors lead only to processes of its own service: the queue leads to its workers, and from
        these to its handshakers. The porter has copies of these sockets, and so has the supervisor, which never reads them. The
        keyholder's filter does not allow such a call."""
        peers = unix_peers.peers()
        if peers is None:
            self.skipTest("the kernel does not tell who is at the other end (CONFIG_UNIX_DIAG)")
        own = {pid for (name, _), pid in self.of.items() if name == "attacked"} | {self.service.process.pid}
        for role in ("handshaker", "porter"):
            pid = self.of["attacked", role]
            inodes, accepted, refused = unix_peers.sockets(pid), [], set()
            with Taken(pid) as process:
                for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
                    result = process.send_descriptor(fd, 0)
                    if result == 1:
                        accepted.append(peers[inodes[fd]])
                    else:
                        refused.add(errno.errorcode[-result])
            self.assertEqual(len(accepted), 1, role)
            self.assertLessEqual(unix_peers.owners(accepted[0]), own)
            self.assertLessEqual(refused, {"ENOTSOCK", "EPIPE", "ENOTCONN", "EBADF"})
            self.assertIn("EPIPE", refused, "its control channel, which leads to the supervisor")
        with Taken(self.of["attacked", "keyholder"]) as process, self.assertRaises(Killed):
            process.send_descriptor(3, 0)
        self.recovers()

    def test_no_signature_of_the_other(self):
        """It asks with every certificate number; the only signature that it gets is by its own service's key."""
        with Taken(self.of["attacked", "handshaker"]) as process:
            channel = SigningChannel(process, self.of["attacked", "keyholder"])
            signed = channel.ask(0, ECDSA_P256, TLS13_SERVER)
            self.assertEqual(signed[:1], SIGNED)
            for certificate in (*range(1, 40), 65535):
                answer = channel.ask(certificate, ECDSA_P256, TLS13_SERVER)
                self.assertEqual((answer[:1], answer[-1]), (REFUSED, CERTIFICATE))
        signature = signed[1 + 7 + 3:]
        self.assertEqual([self.verifies(certificate, signature) for certificate in self.service.certificates], [True, False])

    def verifies(self, certificate, signature):
        with tempfile.TemporaryDirectory() as directory:
            for name, data in (("content", TLS13_SERVER), ("signature", signature)):
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(data)
            public = os.path.join(directory, "public")
            subprocess.run(["openssl", "x509", "-in", certificate.chain, "-pubkey", "-noout", "-out", public], check=True, timeout=60)
            done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", public, "-signature", f"{directory}/signature",
                                   f"{directory}/content"], capture_output=True, check=False, timeout=60)
            return done.returncode == 0


if __name__ == "__main__":
    unittest.main()
