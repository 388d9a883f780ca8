# SPDX-License-Identifier: Apache-2.0
"""`tlsbroker connect` and `tlsbroker wrap`, by hand beside a running broker."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import broker as testlib
import opening_cases

CONFIG = """
[certificate.one]
chain = "{0.chain}"
key = "{0.key}"
[service.hand]
listen = ["127.0.0.1:{1}"]
certificates = ["one"]
wrap = ["server", "client"]
dial = ["up"]
allow_users = ["root"]
[service.nothing]
listen = ["127.0.0.1:{2}"]
certificates = ["one"]
allow_users = ["root"]
[broker]
runtime_dir = "{{runtime_dir}}"
user = "nobody"
ca_file = "{0.chain}"
"""
TOOL = testlib.program("client-lib/tools/tlsbroker")


def can_follow():
    """Whether KeyUpdates can be followed: in relay mode always, in direct mode if the kernel can."""
    return testlib.expects("rekey") or not testlib.expects("ktls")


class Talk:
    """A program whose standard input is written, and whose output is read, by the test."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.lines = []
        self.thread = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, b"")))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def text(self):
        return b"".join(self.lines).decode("utf-8", "replace")

    def wait(self, words, times=1):
        testlib.wait_until(lambda: self.text().count(words) >= times, f"{words!r}", 20)


class ByHand(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="tlsbroker-connect-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        os.chmod(self.home, 0o755)
        self.certificate = testlib.Certificate(self.home)
        self.server = self.enterContext(opening_cases.TlsServer(self.certificate))
        config = CONFIG.format(self.certificate, testlib.free_port(), testlib.free_port())
        config += self.upstream("up", self.server)
        self.config = config
        self.broker = self.enterContext(testlib.Broker(config))

    @staticmethod
    def upstream(name, server, server_name="localhost", lines=""):
        return opening_cases.UPSTREAM.format(name=name, port=server.port, server_name=server_name, lines=lines)

    def test_what_is_wrong_with_a_server(self):
        """Each fault has its own message, and an exit status that says that another try would have the same result."""
        other, expired = testlib.Certificate(self.home, name="other.example"), opening_cases.Expired(self.home)
        servers = [self.enterContext(opening_cases.TlsServer(one)) for one in (other, expired)]
        pin = f'pin = ["{opening_cases.pin_of(other)}"]'
        config = self.config.replace('dial = ["up"]', 'dial = ["up", "name", "strange", "old", "revoked"]')
        config += self.upstream("name", self.server, "wrong.example") + self.upstream("strange", servers[0])
        config += self.upstream("old", servers[1], "expired.example", f'ca_file = "{expired.chain}"')
        self.broker.write_config(config + self.upstream("revoked", self.server, lines=pin))
        start = len(self.broker.log)
        self.broker.signal(signal.SIGHUP)
        self.broker.wait_for_log("in force", start=start)
        for name, words in (("name", "is for another name"), ("strange", "is self-signed"), ("old", "has expired"),
                            ("revoked", "has none of the pinned keys")):
            with self.subTest(name):
                done = self.run_tool("connect", name)
                self.assertEqual((done.returncode, done.stdout), (100, b""), done.stderr)
                self.assertIn(words, done.stderr.decode())

    def test_key_updates(self):
        """KeyUpdates of a server, that ask for one in return or not, from the first record after the handshake on."""
        port = testlib.free_port()
        server = self.enterContext(Talk(["stdbuf", "-oL", "openssl", "s_server", "-accept", str(port), "-cert",
                                         self.certificate.chain, "-key", self.certificate.key]))
        server.wait("ACCEPT")
        tool = self.enterContext(Talk([TOOL, "connect", "--socket", self.socket_of(), "localhost", str(port)]))
        tool.say("hello")
        server.wait("hello")
        if not can_follow():
            server.say("K")
            self.assertEqual(tool.process.wait(20 * testlib.PATIENCE), 111)
            return
        for number, command in enumerate("KkK", 1):
            server.say(command)
            server.wait("SSL_do_handshake -> 1", number)
            server.say(f"after {number}")
            tool.wait(f"after {number}")
            tool.say(f"back {number}")
            server.wait(f"back {number}")
        tool.process.stdin.close()
        server.wait("CONNECTION CLOSED")
        self.assertEqual(tool.process.wait(20 * testlib.PATIENCE), 0)
        self.assertNotIn("ERROR", server.text())

    def socket_of(self, service="hand"):
        return os.path.join(self.broker.directory, "run", f"{service}.sock")

    def run_tool(self, *arguments, service="hand", data=b"hello\n"):
        return subprocess.run([TOOL, arguments[0], "--socket", self.socket_of(service), *arguments[1:]], input=data,
                              capture_output=True, timeout=30 * testlib.PATIENCE)

    def test_connect(self):
        port = str(self.server.port)
        for target in (["localhost", port], ["127.0.0.1", port], ["up"]):
            with self.subTest(target):
                done = self.run_tool("connect", *target)
                self.assertEqual((done.stdout, done.returncode), (b"HELLO HELLO\n", 0), done.stderr)

    def test_exit_status(self):
        port = str(self.server.port)
        for arguments, status, words in (
                (["--name", "wrong.example", "localhost", port], 100, "for another name"),
                (["localhost", str(testlib.free_port())], 111, "refused"),
                (["nobody"], 100, "does not allow"),
                (["--nonsense", "up"], 100, ""),
                (["localhost", port, "more"], 100, "usage"),
                ([], 100, "usage")):
            with self.subTest(arguments):
                done = self.run_tool("connect", *arguments)
                self.assertEqual((done.returncode, done.stdout), (status, b""), done.stderr)
                self.assertIn(words, done.stderr.decode())
        self.assertEqual(self.run_tool("connect", "up", service="nothing").returncode, 100)
        self.assertEqual(self.run_tool("connect", "up", service="none").returncode, 111)
        cut = self.run_tool("connect", "up", data=b"cut\n")
        self.assertEqual((cut.stdout, cut.returncode), (b"HELLO CUT\n", 111), cut.stderr)

    def test_what_came_before_a_cut_is_not_lost(self):
        """The server sends data and then a reset. A process that writes sees the reset at once; one that reads gets the data
        first."""
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        command = [TOOL, "connect", "--socket", self.socket_of(), "localhost", str(listener.getsockname()[1])]
        with Talk(command) as tool, listener.accept()[0] as raw:
            with self.server.context.wrap_socket(raw, server_side=True) as tls:
                tool.say("hello")
                self.assertEqual(tls.recv(100), b"hello\n")
                handshaker = self.broker.processes()["handshaker"][0]
                os.kill(handshaker, signal.SIGSTOP)
                self.addCleanup(os.kill, handshaker, signal.SIGCONT)
                tool.say("what nobody reads")
                time.sleep(0.2)
                tls.sendall(b"the last words\n")
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.kill(handshaker, signal.SIGCONT)
            self.assertEqual(tool.process.wait(20 * testlib.PATIENCE), 111)
            tool.thread.join()
            self.assertEqual(tool.text(), "the last words\n")

    def converse(self, options, serve):
        """The result of the tool after "hello" and the end of its input, and what `serve` returned; it gets the server's end and
        the tool's process."""
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        command = [TOOL, "connect", "--socket", self.socket_of(), *options, "localhost", str(listener.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tool:
            self.addCleanup(tool.kill)
            with listener.accept()[0] as raw:
                raw.settimeout(20 * testlib.PATIENCE)
                with self.server.context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as tls:
                    tool.stdin.write(b"hello")
                    tool.stdin.close()
                    self.assertEqual(tls.recv(100), b"hello")
                    said = serve(tls, tool)
            return tool.stdout.read(), tool.wait(20 * testlib.PATIENCE), tool.stderr.read(), said

    def test_the_direction_is_left_open(self):
        """The server has not heard of an end when it ends by itself."""
        def waits(tool):
            for thread in os.listdir(f"/proc/{tool.pid}/task"):
                with open(f"/proc/{tool.pid}/task/{thread}/syscall", encoding="ascii") as file:
                    if file.read().startswith("202 "):  # futex(2)
                        return True
            return False

        def serve(tls, tool):
            testlib.wait_until(lambda: waits(tool), "end of the input")
            tls.sendall(b"an answer")
            tls.setblocking(False)
            with self.assertRaises(ssl.SSLWantReadError):
                tls.recv(100)
            tls.settimeout(20 * testlib.PATIENCE)
            return tls.unwrap() is not None  # waits for the other end

        for time_text in ("never", "1h", "2d"):
            with self.subTest(time_text):
                self.assertEqual(self.converse(["--end-after", time_text], serve), (b"an answer", 0, b"", True))

    def test_a_server_that_answers_to_the_end(self):
        def serve(tls, _):
            self.assertEqual(tls.recv(100), b"")
            tls.sendall(b"an answer")
            return tls.unwrap() is not None

        for options in ([], ["--end-after", "0"], ["--end-after", "10ms"]):
            with self.subTest(options):
                self.assertEqual(self.converse(options, serve), (b"an answer", 0, b"", True))

    def test_a_time_that_is_none(self):
        done = self.run_tool("connect", "--end-after", "soon", "up")
        self.assertEqual((done.returncode, done.stdout), (100, b""))
        self.assertIn(b'--end-after "soon": a time such as "10m", or "never", is needed', done.stderr)

    def test_both_directions_at_once(self):
        """More data than any buffer holds is sent each way, and then the ends."""
        size = 8 << 20
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        received = []

        def serve():
            with listener.accept()[0] as raw, self.server.context.wrap_socket(raw, server_side=True) as tls:
                received.append(len(testlib.both_ways(tls, bytes(size))))
                tls.settimeout(30 * testlib.PATIENCE)
                tls.unwrap()

        thread = threading.Thread(target=serve)
        thread.start()
        done = self.run_tool("connect", "localhost", str(listener.getsockname()[1]), data=bytes(size))
        thread.join(30)
        self.assertEqual((len(done.stdout), done.returncode, received), (size, 0, [size]), done.stderr)

    def test_pipes_that_do_not_block(self):
        """O_NONBLOCK belongs to the open pipe and not to a process; distcc leaves it on."""
        size = 8 << 20
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        command = [TOOL, "connect", "--socket", self.socket_of(), "localhost", str(listener.getsockname()[1])]
        (stdin, feeder), (drain, stdout) = os.pipe(), os.pipe()
        for end in stdin, stdout:
            os.set_blocking(end, False)
        with open(feeder, "wb") as feeder, open(drain, "rb") as drain:
            with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE) as tool:
                self.addCleanup(tool.kill)
                os.close(stdin)
                os.close(stdout)
                received = []

                def serve():
                    with listener.accept()[0] as raw, self.server.context.wrap_socket(raw, server_side=True) as tls:
                        received.append(len(testlib.both_ways(tls, bytes(size))))
                        tls.settimeout(30 * testlib.PATIENCE)
                        tls.unwrap().close()

                def feed():
                    feeder.write(bytes(size))
                    feeder.close()

                threads = [threading.Thread(target=function, daemon=True) for function in (serve, feed)]
                for thread in threads:
                    thread.start()
                came = len(drain.read())
                for thread in threads:
                    thread.join(30)
                self.assertEqual((came, tool.wait(20 * testlib.PATIENCE), received), (size, 0, [size]), tool.stderr.read())

    def wrapped(self, *program, service="hand"):
        """A client's plain socket, and the tool, which has the other end of the connection."""
        listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        client = self.enterContext(socket.create_connection(listener.getsockname(), 10 * testlib.PATIENCE))
        with listener.accept()[0] as accepted:
            tool = subprocess.Popen([TOOL, "wrap", "--socket", self.socket_of(service), *program], stdin=accepted,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(tool.stderr.close)
        self.addCleanup(tool.wait)
        self.addCleanup(tool.kill)
        return client, tool

    def test_wrap_a_program(self):
        client, tool = self.wrapped("/bin/sh", "-c", 'read line; echo "$PROTO $SSL_PROTOCOL $line"')
        context = testlib.tls_context(self.certificate)
        with context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
            tls.sendall(b"hello\n")
            self.assertEqual(tls.makefile("rb").readline(), b"TCP TLSv1.3 hello\n")
            self.assertEqual(testlib.ending(tls.recv), "end")
            tls.unwrap().close()
        self.assertEqual(tool.wait(20 * testlib.PATIENCE), 0)

    def test_wrap_as_the_client(self):
        peer, tool = self.wrapped("--client", "localhost", "--", "/bin/sh", "-c", "echo hello; cat >&2")
        thread = threading.Thread(target=self.server.serve, args=(peer.dup(),))
        thread.start()
        thread.join(20 * testlib.PATIENCE)
        self.assertEqual(tool.wait(20 * testlib.PATIENCE), 0)
        self.assertEqual(self.server.heard, [b"hello\n"])
        self.assertIn(b"HELLO HELLO", tool.stderr.read())

    def test_wrap_refused(self):
        for arguments, service, status in ((["/bin/true"], "nothing", 100), ([], "hand", 100)):
            _, tool = self.wrapped(*arguments, service=service)
            self.assertEqual(tool.wait(20 * testlib.PATIENCE), status)
        client, tool = self.wrapped("/bin/true")
        client.close()
        self.assertEqual(tool.wait(20 * testlib.PATIENCE), 111)

    def test_wrap_what_is_no_connection(self):
        done = self.run_tool("wrap", "/bin/true")
        self.assertEqual(done.returncode, 100, done.stderr)
        self.assertEqual(self.broker.status()["counters"]["open_failed"], 0, "the broker was not asked")


if __name__ == "__main__":
    unittest.main()
