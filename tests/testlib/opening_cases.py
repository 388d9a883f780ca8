# SPDX-License-Identifier: Apache-2.0
"""Connections that workers ask for: by wrap, as the server and as a client, and by dial. Subclasses set `ktls`."""

import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

import broker as testlib
import echo_service

# Statuses of protocol/request.h.
(DONE, BUSY, NOT_ALLOWED, BAD_SOCKET, NOT_CONNECTED, TIMEOUT, PEER_GONE, HANDSHAKE, WRONG_NAME, EXPIRED, SELF_SIGNED,
 UNKNOWN_CA, PIN, CERTIFICATE, NO_KTLS, FAILED) = range(16)

UPSTREAM = """
[upstream.{name}]
address = "127.0.0.1:{port}"
name = "{server_name}"
{lines}
"""


NGINX = """
daemon off;
master_process off;
pid {home}/pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home};
  scgi_temp_path {home};
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate.chain};
    ssl_certificate_key {certificate.key};
    root {home};
  }}
}}
"""


class Expired(testlib.Certificate):
    """A certificate that expired yesterday."""

    def __init__(self, directory):
        super().__init__(directory, name="expired.example")
        request = self.chain + ".csr"
        subprocess.run(["openssl", "x509", "-x509toreq", "-copy_extensions", "copy", "-in", self.chain, "-signkey",
                        self.key, "-out", request], check=True, capture_output=True, timeout=60)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-signkey", self.key, "-days", "-1",
                        "-copy_extensions", "copy", "-out", self.chain], check=True, capture_output=True, timeout=60)


class Issued(testlib.Certificate):
    """A certificate that `issuer` has signed."""

    def __init__(self, directory, issuer):
        super().__init__(directory, name="issued.example")
        request = self.chain + ".csr"
        subprocess.run(["openssl", "req", "-new", "-key", self.key, "-subj", "/CN=issued.example", "-out", request],
                       check=True, capture_output=True, timeout=60)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", issuer.chain, "-CAkey", issuer.key,
                        "-set_serial", "1", "-days", "30", "-out", self.chain],
                       check=True, capture_output=True, timeout=60)


def pin_of(certificate):
    key = subprocess.run(["openssl", "x509", "-in", certificate.chain, "-noout", "-pubkey"], check=True,
                         capture_output=True, timeout=60).stdout
    der = ssl.PEM_cert_to_DER_cert(key.decode().replace("PUBLIC KEY", "CERTIFICATE"))
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


class TlsServer:
    """Sends `HELLO` and, in capitals, what it was sent; then it ends or cuts the connection. Keeps the server names that clients
    asked for."""

    def __init__(self, certificate, version=None, ciphers=None, alpn=(), mute=False, plain=False):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.chain, certificate.key)
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        if ciphers:
            self.context.set_ciphers(ciphers)
        if alpn:
            self.context.set_alpn_protocols(list(alpn))
        self.names, self.heard, self.errors, self.held = [], [], [], []
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.mute, self.plain = mute, plain
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                raw = self.listener.accept()[0]
            except OSError:
                return
            if self.mute:
                self.held.append(raw)
                continue
            threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def serve(self, raw):
        raw.settimeout(20 * testlib.PATIENCE)
        # Without this, what the server says may still wait for an acknowledgement when the server cuts the connection, and is
        # lost.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with raw, contextlib.suppress(OSError):
            if self.plain:
                raw.sendall(b"220 this is no TLS\r\n")
                raw.recv(1000)
                return
            try:
                tls = self.context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
            except (ssl.SSLError, OSError) as error:
                self.errors.append(str(error))
                return
            line = tls.makefile("rb").readline()
            tls.sendall(b"HELLO " + line.upper())
            if b"cut" in line:
                return
            with tls.unwrap() as plain:
                self.heard.append(line)
                plain.recv(1)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
        for raw in self.held:
            raw.close()


class Opening:
    ktls = "never"

    @property
    def mode(self):
        return "relay" if self.ktls == "never" else "direct"

    def setUp(self):
        self.upstreams, self.dial = "", []
        self.service = None

    def upstream(self, name, port, server_name="localhost", ca=None, lines=""):
        if ca:
            lines += f'\nca_file = "{ca.chain}"'
        self.upstreams += UPSTREAM.format(name=name, port=port, server_name=server_name, lines=lines)
        self.dial.append(name)

    def prepare(self):
        """Makes a directory for certificates; there is no broker yet."""
        directory = tempfile.mkdtemp(prefix="tlsbroker-opening-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        os.chmod(directory, 0o755)
        return directory

    def start(self, wrap=(), worker_lines="network = false", ca=None, dial=None, broker_lines="", service_lines=""):
        listed = ", ".join(f'"{name}"' for name in (self.dial if dial is None else dial))
        lines = service_lines + "\n" + (f"dial = [{listed}]\n" if listed else "")
        lines += "wrap = [" + ", ".join(f'"{role}"' for role in wrap) + "]\n" if wrap else ""
        if ca:
            broker_lines += f'\nca_file = "{ca.chain}"'
        self.service = Service(self.upstreams, {"echo": self.ktls}, handshakers=1, lines=lines,
                               worker_lines=worker_lines, broker_lines=broker_lines)
        self.enterContext(self.service)
        return self.service

    def command(self, text, **options):
        with self.service.connect(**options) as tls:
            tls.sendall(text.encode() + b"\n")
            return json.loads(tls.makefile("rb").readline())

    def serve(self, certificate, **options):
        return self.enterContext(TlsServer(certificate, **options))

    # ---- dial

    def test_dial(self):
        """A strict worker without network dials, with both versions and every suite."""
        good = testlib.Certificate(self.prepare())
        kinds = {"tls13": (ssl.TLSVersion.TLSv1_3, None), "tls12": (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
                 "tls12-256": (ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384"),
                 "tls12-chacha": (ssl.TLSVersion.TLSv1_2, "CHACHA20-POLY1305")}
        servers = {}
        for name, (version, cipher) in kinds.items():
            ciphers = cipher and f"ECDHE-ECDSA-{cipher}"
            servers[name] = self.serve(good, version=version, ciphers=ciphers, alpn=["redis"])
            self.upstream(name, servers[name].port, ca=good, lines='alpn = ["other", "redis"]')
        self.start(worker_lines='network = false\nprofile = "strict"')
        for name, server in servers.items():
            with self.subTest(name):
                answer = self.command(f"DIAL {name} hello")
                self.assertEqual(answer.get("said"), "HELLO HELLO\n", answer)
                self.assertEqual(answer["how"], "end")
                self.assertEqual((answer["mode"], answer["role"]), (self.mode, "client"), answer)
                self.assertEqual(answer["peer"], ["127.0.0.1", server.port])
                self.assertEqual((answer["alpn"], answer["service"]), ("redis", "echo"))
                self.assertEqual((server.names, answer["server_name"]), (["localhost"], "localhost"))
                if name == "tls13" and self.mode == "direct" and testlib.expects("rekey"):
                    self.assertIn("token", answer, "it has changed its keys")
                self.assertTrue(answer["blocking"])
                self.assertEqual(answer["key_algorithm"], "EC256")
        testlib.wait_until(lambda: self.service.status()["counters"]["opened"] == len(servers), "count of the opened")
        self.assertEqual(self.command("DIAL tls13 cut")["how"] == "end", False, "a cut is no end")

    def daemon(self, command, port=None):
        """Runs a server until the test is over, on a port that is returned and that takes the place of PORT in the command."""
        port = port or testlib.free_port()
        process = subprocess.Popen([word.replace("PORT", str(port)) for word in command], stdin=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)

        def answers():
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                return True

        testlib.wait_until(answers, f"answer of {command[0]}", 20)
        return port

    def redis(self, home, certificate):
        return self.daemon(["redis-server", "--port", "0", "--tls-port", "PORT", "--tls-cert-file", certificate.chain,
                            "--tls-key-file", certificate.key, "--tls-ca-cert-file", certificate.chain,
                            "--tls-auth-clients", "no", "--save", "", "--dir", home])

    def nginx(self, home, certificate):
        home = tempfile.mkdtemp(dir=home)
        with open(os.path.join(home, "index.html"), "w", encoding="ascii") as page:
            page.write("nginx was here")
        port = testlib.free_port()
        with open(os.path.join(home, "conf"), "w", encoding="ascii") as config:
            config.write(NGINX.format(home=home, port=port, certificate=certificate))
        return self.daemon(["nginx", "-e", "stderr", "-p", home, "-c", os.path.join(home, "conf")], port)

    def s_server(self, certificate, *options):
        return self.daemon(["openssl", "s_server", "-accept", "PORT", "-cert", certificate.chain,
                            "-key", certificate.key, "-www", *options])

    def test_dial_other_peoples_servers(self):
        """The worker does not notice the session tickets that these servers send."""
        home = self.prepare()
        good = testlib.Certificate(home)
        self.upstream("redis", self.redis(home, good), ca=good)
        self.upstream("nginx", self.nginx(home, good), ca=good)
        self.upstream("openssl", self.s_server(good, "-num_tickets", "9"), ca=good)
        self.start()
        answer = self.command("DIAL redis SET key value|GET key|QUIT")
        self.assertEqual((answer.get("said"), answer.get("how")), ("+OK\r\n$5\r\nvalue\r\n+OK\r\n", "end"), answer)
        self.assertEqual(answer["mode"], self.mode)
        answer = self.command("DIAL nginx GET / HTTP/1.0|")
        self.assertEqual((answer["said"].split("\r\n")[0], answer["how"]), ("HTTP/1.1 200 OK", "end"), answer)
        self.assertIn("nginx was here", answer["said"])
        self.assertEqual(answer["mode"], self.mode)
        answer = self.command("DIAL openssl GET / HTTP/1.0|")
        self.assertIn("HTTP/1.0 200 ok", answer["said"])
        self.assertIn("</pre></body></html>", answer["said"].lower())
        self.assertEqual(answer["mode"], self.mode)

    def test_what_is_wrong_with_other_peoples_servers(self):
        home = self.prepare()
        good, other, expired = testlib.Certificate(home), testlib.Certificate(home, name="other.example"), Expired(home)
        makers = {"redis": lambda certificate: self.redis(home, certificate),
                  "nginx": lambda certificate: self.nginx(home, certificate), "openssl": self.s_server}
        for name, make in makers.items():
            port = make(good)
            self.upstream(f"{name}-wrong-name", port, "other.example", good)
            self.upstream(f"{name}-self-signed", port, ca=other)
            self.upstream(f"{name}-revoked", port, ca=good, lines=f'pin = ["{pin_of(other)}"]')
            self.upstream(f"{name}-expired", make(expired), "expired.example", expired)
        self.start()
        results = {"wrong-name": WRONG_NAME, "self-signed": SELF_SIGNED, "revoked": PIN, "expired": EXPIRED}
        for name in makers:
            for why, result in results.items():
                with self.subTest(f"{name} {why}"):
                    self.assertEqual(self.command(f"DIAL {name}-{why} GET / HTTP/1.0|")["result"], result)

    # ---- client certificates

    def client_certificates(self, home):
        """Adds client certificates to the configuration. Returns them by their kinds, and the options with which s_server trusts
        both."""
        certificates = {kind: testlib.Certificate(home, kind, name="client.example") for kind in ("ec256", "rsa")}
        trusted = os.path.join(home, "clients.pem")
        with open(trusted, "w", encoding="ascii") as together:
            for certificate in certificates.values():
                self.upstreams += echo_service.CERTIFICATE.format(certificate)
                with open(certificate.chain, encoding="ascii") as one:
                    together.write(one.read())
        return certificates, ["-Verify", "1", "-verify_return_error", "-CAfile", trusted]

    def test_client_certificates(self):
        """The keyholder signs for a client, too; only servers that ask for a certificate get one."""
        home = self.prepare()
        good = testlib.Certificate(home)
        certificates, verify = self.client_certificates(home)
        asking = {version: self.s_server(good, f"-{version}", *verify) for version in ("tls1_2", "tls1_3")}
        not_asking = self.s_server(good)
        for version, port in asking.items():
            self.upstream(f"{version}-none", port, ca=good)
            for kind, certificate in certificates.items():
                self.upstream(f"{version}-{kind}", port, ca=good, lines=f'certificate = "{certificate.id}"')
        self.upstream("not-asking", not_asking, ca=good, lines=f'certificate = "{certificates["rsa"].id}"')
        self.start()
        for version in asking:
            for kind in certificates:
                with self.subTest(f"{version} {kind}"):
                    answer = self.command(f"DIAL {version}-{kind} GET / HTTP/1.0|")
                    self.assertIn("Client certificate", answer.get("said", ""), answer)
                    self.assertRegex(answer["said"], "Subject: CN ?= ?client.example")
                    self.assertEqual((answer["how"], answer["mode"]), ("end", self.mode))
        self.assertEqual(self.command("DIAL tls1_2-none hello")["result"], HANDSHAKE)
        answer = self.command("DIAL tls1_3-none hello")  # in TLS 1.3 the server refuses after the client's handshake is done
        self.assertEqual((answer["result"], answer.get("said")), (DONE, ""), answer)
        self.assertNotEqual(answer["how"], "end")
        self.assertIn("no client certificate available", self.command("DIAL not-asking GET / HTTP/1.0|")["said"])

    def test_client_certificates_of_wrap(self):
        home = self.prepare()
        good = testlib.Certificate(home)
        certificates, verify = self.client_certificates(home)
        port = self.s_server(good, *verify)
        mine, others = certificates["ec256"].id, certificates["rsa"].id
        self.start(wrap=["client"], worker_lines="network = true", ca=good,
                   service_lines=f'client_certificates = ["{mine}"]')
        answer = self.command(f"WRAP 127.0.0.1 {port} localhost GET_/_HTTP/1.0| cert:{mine}")
        self.assertRegex(answer.get("said", ""), "Subject: CN ?= ?client.example")
        for name in (others, good.id, "none"):
            answer = self.command(f"WRAP 127.0.0.1 {port} localhost hello cert:{name}")
            self.assertEqual(answer["result"], NOT_ALLOWED, name)

    def test_what_is_wrong_with_a_server(self):
        """Each fault has its own result, and nothing that the worker sends reaches the server."""
        home = self.prepare()
        good, other = testlib.Certificate(home), testlib.Certificate(home, name="other.example")
        expired, stranger = Expired(home), testlib.Certificate(home, name="stranger.example")
        issued = Issued(home, other)
        cases = {
            "wrong-name": (WRONG_NAME, self.serve(other), "localhost", other, ""),
            "wrong-address": (WRONG_NAME, self.serve(other), "127.0.0.1", other, ""),
            "expired": (EXPIRED, self.serve(expired), "expired.example", expired, ""),
            "self-signed": (SELF_SIGNED, self.serve(stranger), "stranger.example", good, ""),
            "unknown-ca": (UNKNOWN_CA, self.serve(issued), "issued.example", good, ""),
            "known-ca": (DONE, self.serve(issued), "issued.example", other, ""),
            "another-key": (PIN, self.serve(good), "localhost", good, f'pin = ["{pin_of(other)}"]'),
            "no-tls": (PEER_GONE, self.serve(good, plain=True), "localhost", good, ""),
            "no-alpn": (DONE, self.serve(good), "localhost", good, 'alpn = ["x"]'),
            "pinned": (DONE, self.serve(good), "localhost", good, f'pin = ["{pin_of(other)}", "{pin_of(good)}"]'),
            "by-address": (DONE, self.serve(good), "127.0.0.1", good, ""),
        }
        for name, (_, server, server_name, ca, lines) in cases.items():
            self.upstream(name, server.port, server_name, ca, lines)
        self.upstream("nobody", testlib.free_port(), ca=good)
        self.start()
        for name, (expected, server, _, _, _) in cases.items():
            with self.subTest(name):
                answer = self.command(f"DIAL {name} hello")
                self.assertEqual(answer["result"], expected, answer)
                if expected != DONE:
                    self.assertEqual(server.heard, [])
        self.assertEqual(self.command("DIAL nobody hello")["result"], NOT_CONNECTED)

    def test_who_may(self):
        good = testlib.Certificate(self.prepare())
        server = self.serve(good)
        self.upstream("mine", server.port, ca=good)
        self.upstream("others", server.port, ca=good)
        self.start(dial=["mine"], worker_lines="network = true")
        self.assertEqual(self.command("DIAL mine hello")["result"], DONE)
        for name in ("others", "none", "mine.", f"127.0.0.1:{server.port}"):
            self.assertEqual(self.command(f"DIAL {name} hello")["result"], NOT_ALLOWED, name)
        self.assertEqual(server.names, ["localhost"], "nobody else has connected")
        testlib.wait_until(lambda: self.service.status()["counters"]["open_failed"] == 4, "count of the refused")
        self.assertEqual(self.command(f"WRAP 127.0.0.1 {server.port} localhost hello")["result"], NOT_ALLOWED)

    def test_a_server_that_says_nothing(self):
        """The request takes as long as the configuration allows, and does not delay other requests."""
        good = testlib.Certificate(self.prepare())
        self.upstream("mute", self.serve(good, mute=True).port, ca=good)
        self.upstream("good", self.serve(good).port, ca=good)
        self.start(broker_lines=f'handshake_timeout = "{3 * testlib.PATIENCE}s"')
        with self.service.connect() as slow:
            slow.sendall(b"DIAL mute hello\n")
            self.assertEqual(self.command("DIAL good hello")["said"], "HELLO HELLO\n")
            slow.settimeout(30 * testlib.PATIENCE)
            self.assertEqual(json.loads(slow.makefile("rb").readline())["result"], TIMEOUT)

    def test_too_many(self):
        """When 64 are under way further ones are refused at once, and the service's own clients do not notice."""
        good = testlib.Certificate(self.prepare())
        mute = self.serve(good, mute=True)
        self.upstream("mute", mute.port, ca=good)
        self.start(broker_lines='handshake_timeout = "60s"')
        for _ in range(64):
            self.enterContext(self.service.connect()).sendall(b"DIAL mute hello\n")
        testlib.wait_until(lambda: len(mute.held) == 64, "as many as can be under way", 60)
        self.assertEqual(self.command("DIAL mute hello")["result"], BUSY)
        self.assertTrue(self.service.ask(b"PID\n"))
        for raw in mute.held:  # else the broker would wait for the server's end of these
            raw.close()

    def test_flood(self):
        """Many requests that are refused, or that succeed, delay neither the service's clients nor other requests."""
        good = testlib.Certificate(self.prepare())
        server = self.serve(good)
        self.upstream("good", server.port, ca=good)
        # 64 handshakes at once share an emulated processor with the client's.
        self.start(broker_lines='handshake_timeout = "60s"')
        for name, count in (("none", 2500), ("good", 500)):
            with self.subTest(name), self.service.connect() as flooding:
                flooding.sendall(f"DIALS {count} {name}\n".encode())
                self.assertTrue(self.service.ask(b"PID\n"))
                self.assertEqual(flooding.makefile("rb").readline(), b"done\n")

                def served(name=name):
                    return self.command("DIAL good hello").get("said") == "HELLO HELLO\n"

                testlib.wait_until(served, "connection after the flood", 60)

        def counted():
            counters = self.service.status()["counters"]
            return counters["opened"] + counters["open_failed"] >= 3000

        testlib.wait_until(counted, "count of all", 60)

    def test_reload(self):
        """After a reload the next dial goes by the new configuration, even if the old handshaker stays and is busy."""
        home = self.prepare()
        good = testlib.Certificate(home)
        first, second = self.serve(good), self.serve(good)
        self.upstream("it", first.port, ca=good)
        service = self.start()
        self.assertEqual(self.command("DIAL it one")["said"], "HELLO ONE\n")
        service.upstreams = service.upstreams.replace(str(first.port), str(second.port))
        with service.connect() as flooding:
            flooding.sendall(b"DIALS 5000 none\n")
            testlib.wait_until(lambda: service.status()["counters"]["open_failed"] > 1000, "flood")
            service.reload()
            for _ in range(10):
                self.assertEqual(self.command("DIAL it two", timeout=60)["said"], "HELLO TWO\n")
        testlib.wait_until(lambda: (len(first.heard), len(second.heard)) == (1, 10), "what each server heard")

    def test_reloads_meanwhile(self):
        """Every request is answered, by the old handshakers or by the new ones."""
        good = testlib.Certificate(self.prepare())
        self.upstream("it", self.serve(good).port, ca=good)
        service = self.start()
        context = service.context()  # made before: each reload writes the file from which it is made
        stop = threading.Event()

        def dial():
            said = set()
            while not said or not stop.is_set():
                said.add(self.command("DIAL it hello", context=context).get("said"))
            return said

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            dialling = [pool.submit(dial) for _ in range(3)]
            try:
                for _ in range(3):
                    service.reload()
            finally:
                stop.set()
            for future in dialling:
                self.assertEqual(future.result(), {"HELLO HELLO\n"})

    # ---- wrap

    def test_wrap_as_client(self):
        home = self.prepare()
        good, other = testlib.Certificate(home), testlib.Certificate(home, name="other.example")
        server, stranger = self.serve(good, alpn=["h2"]), self.serve(other)
        self.start(wrap=["client"], worker_lines="network = true", ca=good)
        answer = self.command(f"WRAP 127.0.0.1 {server.port} localhost hello h2")
        self.assertEqual(answer.get("said"), "HELLO HELLO\n", answer)
        self.assertEqual((answer["alpn"], answer["mode"]), ("h2", self.mode))
        for port, name, expected in ((server.port, "wrong.example", WRONG_NAME),
                                     (server.port, ".localhost", WRONG_NAME),
                                     (stranger.port, "other.example", SELF_SIGNED)):
            answer = self.command(f"WRAP 127.0.0.1 {port} {name} hello")
            self.assertEqual(answer["result"], expected, answer)

    def test_starttls(self):
        """openssl s_client -starttls smtp talks to a worker that speaks SMTP in plaintext first."""
        home = self.prepare()
        port = testlib.free_port()
        worker = shutil.copy(os.path.join(echo_service.HERE, "smtp_worker.py"), home)
        library = shutil.copy(testlib.program("client-lib/libtlsbroker.so.0"), home)
        certificate = testlib.Certificate(home)
        environment = [f"{name}={value}" for name, value in testlib.sanitizer_environment().items()]
        command = ["/usr/bin/env", *environment, "/usr/bin/python3", worker, str(port), library]
        config = echo_service.CERTIFICATE.format(certificate) + f"""
[service.mail]
listen = ["127.0.0.1:{testlib.free_port()}"]
certificates = ["{certificate.id}"]
ktls = "{self.ktls}"
wrap = ["server"]
[service.mail.worker]
command = {json.dumps(command)}
user = "www-data"
network = true
read_only = ["{home}"]
"""
        with testlib.Broker(config) as broker:
            broker.wait_for_log("listening as")
            for version in ("-tls1_3", "-tls1_2"):
                with self.subTest(version):
                    client = subprocess.run(
                        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "smtp", version, "-crlf",
                         "-ign_eof", "-verify_return_error", "-CAfile", certificate.chain, "-servername", "localhost"],
                        input=b"NOOP\nQUIT\n", capture_output=True, timeout=30 * testlib.PATIENCE)
                    self.assertIn(b"250 over TLS", client.stdout, client.stderr + broker.log_text().encode())
                    self.assertIn(b"221 bye", client.stdout)
                    self.assertIn(b"Verify return code: 0", client.stdout)
            broker.wait_for_log(f"wrapped: {self.mode}")
            with socket.create_connection(("127.0.0.1", port), 10) as injector:
                injector.sendall(b"STARTTLS\r\nNOOP\r\n")
                self.assertEqual(injector.makefile("rb").read(), b"220 mail.example ESMTP\r\n")
            with socket.create_connection(("127.0.0.1", port), 10) as no_tls:
                no_tls.sendall(b"STARTTLS\r\n")
                lines = no_tls.makefile("rb")
                self.assertEqual([lines.readline()[:3] for _ in range(2)], [b"220", b"220"])
                no_tls.sendall(b"NOOP\r\n")
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(lines.read(), b"")
            broker.wait_for_log("wrap: -5001")


class Service(echo_service.EchoService):
    """A service with upstreams in its configuration."""

    def __init__(self, upstreams, *arguments, **options):
        self.upstreams = upstreams
        super().__init__(*arguments, **options)

    def text(self):
        return super().text() + self.upstreams
