# SPDX-License-Identifier: Apache-2.0
"""Which files with keys and chains are taken, what is said of them and by what status, and what a client then gets. The files are
those that openssl(1), certbot, acme.sh, a company's authority, haproxy, hitch and stunnel leave behind. Prints a table."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import broker as testlib

EC = "-newkey ec -pkeyopt ec_paramgen_curve:"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
LEGACY = "-provider legacy -provider default"
WORKER = 'worker.exec = ["/bin/cat"]\nworker.user = "daemon"\nworker.start = "on-demand"\n'


def run(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60 * testlib.PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class Workshop:
    """A directory with an authority below an authority, and what they sign."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="tlsbroker-keys-")
        os.chmod(self.home, 0o755)
        self.sh(f"openssl req -x509 {EC}P-256 -nodes -days 3650 -subj /CN=root -addext basicConstraints=critical,CA:TRUE"
                " -addext keyUsage=critical,keyCertSign,cRLSign -keyout root.key -out root.pem")
        self.sign("inter", "root", CA)

    def path(self, name):
        return os.path.join(self.home, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, *parts):
        """A file that only its owner may read; a part is a text, or the name of a file with it."""
        text = "".join(self.read(p) if "\n" not in p and len(p) < 60 and os.path.isfile(self.path(p)) else p for p in parts)
        with open(self.path(name), "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(self.path(name), 0o600)
        return self.path(name)

    def sh(self, command):
        """Runs it there; what it writes is for its owner."""
        return run(f"cd {self.home} && umask 077 && {command}")

    def sign(self, name, issuer, extensions="subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n", new=EC + "P-256",
             key=None, digest="sha256", start=None, end=None, subject=None):
        """NAME.key, NAME.pem and NAME.chain, which has the intermediate, too."""
        key_option = f"-key {key}" if key else f"{new} -nodes -keyout {name}.key"
        self.sh(f"openssl req -new {key_option} -subj '/CN={subject or name}' -out {name}.csr")
        if key:
            shutil.copy(self.path(key), self.path(name + ".key"))
        self.write(name + ".ext", extensions)
        if start:
            self.write("index.txt", "")
            self.write("ca.cnf", "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\npolicy=p\n"
                                 "unique_subject=no\n[p]\ncommonName=supplied\n")
            self.sh(f"openssl ca -batch -config ca.cnf -md {digest} -cert {issuer}.pem -keyfile {issuer}.key -startdate {start}"
                    f" -enddate {end} -extfile {name}.ext -in {name}.csr -out {name}.pem -notext")
        else:
            self.sh(f"openssl x509 -req -{digest} -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -days 90"
                    f" -extfile {name}.ext -out {name}.pem")
        if os.path.exists(self.path("inter.pem")):
            self.write(name + ".chain", name + ".pem", issuer + ".pem")
        return name


class Case:
    """`lines` of [certificate.c]; `says`: what --check says of it; `error`: that it is refused; `sent`: how many certificates."""

    def __init__(self, name, lines, says=(), error=False, sent=2, verifies=True, tls12=True):
        self.name, self.lines, self.error, self.sent, self.verifies = name, lines, error, sent, verifies
        self.tls12 = tls12  # that a client gets it with TLS 1.2, too
        self.says = (says,) if isinstance(says, str) else says
        self.port = None


def pair(w, name):
    return two(w.path(f"{name}.chain"), w.path(f"{name}.key"))


def two(chain, key, passphrase=None):
    return f'chain = "{chain}"\nkey = "{key}"\n' + (f'passphrase = "{passphrase}"\n' if passphrase else "")


def one(pem, passphrase=None):
    return f'pem = "{pem}"\n' + (f'passphrase = "{passphrase}"\n' if passphrase else "")


def key_cases(w):
    """Forms of private keys."""
    w.sign("base", "inter")
    w.sign("rsa", "inter", new="-newkey rsa:2048")
    chain, rsa = w.path("base.chain"), w.path("rsa.chain")
    word, wrong = w.write("word", "secret\n"), w.write("wrong", "other\r\nsecret\n")
    yield Case("PKCS#8", two(chain, w.path("base.key")))
    w.sh("openssl ecparam -name prime256v1 -genkey -out ecparam.key")
    w.sign("ecp", "inter", key="ecparam.key")
    yield Case("EC PARAMETERS before it (openssl ecparam -genkey)", pair(w, "ecp"))
    w.sh("openssl ec -in base.key -out sec1.key")
    yield Case("SEC1", two(chain, w.path("sec1.key")))
    w.sh("openssl rsa -traditional -in rsa.key -out pkcs1.key")
    yield Case("PKCS#1", two(rsa, w.path("pkcs1.key")))
    encrypted = {
        "PKCS#8, AES-256": ("openssl pkcs8 -topk8 -v2 aes256 -passout pass:secret -in base.key", chain),
        "PKCS#8, scrypt": ("openssl pkcs8 -topk8 -scrypt -passout pass:secret -in base.key", chain),
        "PKCS#8, DES and MD5 (-v1)": (f"openssl pkcs8 -topk8 -v1 PBE-MD5-DES {LEGACY} -passout pass:secret -in base.key", chain),
        "PKCS#8, 3DES and SHA-1 (-v1)": ("openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:secret -in base.key", chain),
        "PKCS#8, AES-256, DER": ("openssl pkcs8 -topk8 -v2 aes256 -outform DER -passout pass:secret -in base.key", chain),
        "PKCS#1, AES-256 (Proc-Type)": ("openssl rsa -traditional -aes256 -passout pass:secret -in rsa.key", rsa),
        "PKCS#1, DES (Proc-Type)": (f"openssl rsa -traditional -des {LEGACY} -passout pass:secret -in rsa.key", rsa),
        "SEC1, AES-128 (Proc-Type)": ("openssl ec -aes128 -passout pass:secret -in base.key", chain),
    }
    for number, (name, (command, its_chain)) in enumerate(encrypted.items()):
        w.sh(f"{command} -out encrypted{number}.key")
        yield Case(f"encrypted {name}", two(its_chain, w.path(f"encrypted{number}.key"), word))
    for name, file in (("encrypted PKCS#8", "encrypted0.key"), ("encrypted DER", "encrypted4.key")):
        yield Case(f"{name}, no passphrase", two(chain, w.path(file)),
                   "the private key is encrypted; name the file with its passphrase", error=True)
        yield Case(f"{name}, wrong passphrase", two(chain, w.path(file), wrong),
                   ":7:14: .*wrong: the passphrase does not open the private key", error=True)
    yield Case("encrypted PKCS#8, wrong passphrase file", two(chain, w.path("encrypted0.key"), w.path("none")),
               "none\" cannot be opened", error=True)
    yield Case("passphrase that is not needed", two(chain, w.path("base.key"), word))
    w.sh("openssl pkey -in base.key -outform DER -out key.der; openssl rsa -in rsa.key -traditional -outform DER -out pkcs1.der;"
         "openssl ec -in base.key -outform DER -out sec1.der")
    yield Case("DER, PKCS#8", two(chain, w.path("key.der")))
    yield Case("DER, PKCS#1", two(rsa, w.path("pkcs1.der")))
    yield Case("DER, SEC1", two(chain, w.path("sec1.der")))
    yield Case("by URI", two(chain, "file:" + w.path("base.key")))
    yield Case("encrypted, by URI", two(chain, "file:" + w.path("encrypted0.key"), word))
    yield Case("encrypted, by URI, wrong passphrase", two(chain, "file:" + w.path("encrypted0.key"), wrong),
               ":7:14: .*wrong: the passphrase does not open the private key", error=True)
    yield Case("of another certificate, by URI", two(chain, "file:" + w.path("rsa.key")),
               r":6:7: .*\(RSA 2048\) does not match any of the 2 certificates", error=True)
    for curve in ("P-521", "secp256k1"):
        w.sign(curve, "inter", new=EC + curve)
        yield Case(f"EC {curve}", pair(w, curve),
                   rf"\(EC {curve}\) is of no supported type: RSA .*; make a key of another kind", error=True)
    for kind in (EC + "P-384", "-newkey ed25519", "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048", "-newkey rsa:3072"):
        name = kind.rsplit(maxsplit=1)[-1].replace(":", "-")
        w.sign(name, "inter", new=kind)
        yield Case(kind, pair(w, name))
    w.sign("short", "inter", new="-newkey rsa:1024")
    yield Case("RSA 1024", pair(w, "short"), r"\(RSA 1024\) is too short", error=True)
    w.sh("ssh-keygen -q -t ecdsa -N '' -f ssh.key" if shutil.which("ssh-keygen") else
         "echo '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----' > ssh.key")
    yield Case("OpenSSH's", two(chain, w.path("ssh.key")), "key of OpenSSH: convert a copy", error=True)
    yield Case("of another certificate", two(chain, w.path("rsa.key")),
               r"\(RSA 2048\) does not match any of the 2 certificates \(the first is EC P-256; CN=base\)", error=True)
    yield Case("a request in its place", two(chain, w.path("base.csr")), "no private key found: .* CERTIFICATE REQUEST",
               error=True)
    yield Case("its second half is missing", two(chain, w.write("half.key", w.read("base.key")[:120])),
               "line 1 of the PEM file does not end", error=True)


def file_cases(w):
    """One file for both, in text and binary forms."""
    word = w.path("word")
    base, inter, key = w.read("base.pem"), w.read("inter.pem"), w.read("base.key")
    dh = w.sh("openssl dhparam -dsaparam 1024 2>/dev/null")
    for name, parts in {"key, certificate, chain (haproxy)": (key, base, inter),
                        "certificate, chain, key (hitch)": (base, inter, key),
                        "chain, key, certificate": (inter, key, base), "with DH PARAMETERS (stunnel)": (key, base, inter, dh),
                        "EC PARAMETERS, key, chain": (w.read("ecp.key"), w.read("ecp.chain")),
                        "key of another one in front": (w.read("rsa.key"), key, base, inter),
                        "encrypted": (w.read("encrypted0.key"), base, inter)}.items():
        file = w.write(re.sub(r"\W", "_", name) + ".pem", *parts)
        says = "the chain is not in order" if name.startswith("chain") else ()
        yield Case(f"pem: {name}", one(file, word if name == "encrypted" else None), says)
    yield Case("pem, given as chain and as key", two(w.path("key__certificate__chain__haproxy_.pem"),
                                                     w.path("key__certificate__chain__haproxy_.pem")))
    yield Case("pem without a key", one(w.path("base.chain")), "no private key found: .* CERTIFICATE", error=True)
    yield Case("pem without a certificate", one(w.path("base.key")), "no certificate found", error=True)
    yield Case("pem, and a key besides", one(w.path("base.chain")) + f'key = "{w.path("base.key")}"\n',
               "'key' is given, and 'pem', too", error=True)
    w.write("with.chain", inter)
    for name, options in {"": "-passout pass:", "secret": "-passout pass:secret",
                          "secret, RC2 and 3DES (1.1)": "-legacy -passout pass:secret",
                          "empty, RC2 and 3DES (1.1)": "-legacy -passout pass:",
                          "secret, no MAC": "-nomac -passout pass:secret"}.items():
        file = f"p{len(options)}{len(name)}.p12"
        w.sh(f"openssl pkcs12 -export {options} -inkey base.key -in base.pem -certfile with.chain -out {file}")
        yield Case(f"PKCS#12, passphrase {name or 'empty'}", one(w.path(file), word if name.startswith("secret") else None))
    w.sh("openssl pkcs12 -export -passout pass:secret -inkey base.key -in base.pem -certfile with.chain -out both.p12")
    yield Case("PKCS#12 as chain and as key", two(w.path("both.p12"), w.path("both.p12"), word))
    yield Case("PKCS#12, no passphrase", one(w.path("both.p12")), "the PKCS#12 file is encrypted; name the file", error=True)
    yield Case("PKCS#12, wrong passphrase", one(w.path("both.p12"), w.path("wrong")),
               "the passphrase does not open the PKCS#12 file", error=True)
    w.sh("head -c 600 both.p12 > cut.p12")
    yield Case("PKCS#12, cut", one(w.path("cut.p12"), word), "no private key found|cannot be read", error=True)


def chain_cases(w):
    """Forms of chains, and what is in them."""
    key, base, inter = w.path("base.key"), w.read("base.pem"), w.read("inter.pem")
    w.sh("openssl x509 -in base.pem -outform DER -out base.der; openssl x509 -in inter.pem -outform DER -out inter.der;"
         "cat base.der inter.der > both.der; openssl crl2pkcs7 -nocrl -certfile base.chain -out base.p7b;"
         "openssl crl2pkcs7 -nocrl -certfile base.chain -outform DER -out base.p7c")
    alone = "the issuer of certificate 1 .*, CN=inter, is not in the file"
    yield Case("chain: DER", two(w.path("base.der"), key), alone, sent=1, verifies=False)
    yield Case("chain: two in DER", two(w.path("both.der"), key))
    yield Case("chain: PKCS#7 (.p7b)", two(w.path("base.p7b"), key))
    yield Case("chain: PKCS#7, DER (.p7c)", two(w.path("base.p7c"), key))
    yield Case("chain: line ends of Windows", two(w.write("crlf.pem", (base + inter).replace("\n", "\r\n")),
                                                  w.write("crlf.key", w.read("base.key").replace("\n", "\r\n"))))
    yield Case("chain: byte order mark", two(w.write("bom.pem", "\ufeff" + base + inter),
                                             w.write("bom.key", "\ufeff" + w.read("base.key"))))
    with_text = [w.sh(f"openssl x509 -text -in {name}.pem") for name in ("base", "inter")]
    yield Case("chain: text between (openssl x509 -text)", two(w.write("text.pem", *with_text), key))
    yield Case("chain: no line end between (END-----BEGIN)", two(w.write("join.pem", base.rstrip() + inter.rstrip()), key))
    trusted = w.sh("openssl x509 -trustout -addtrust serverAuth -in base.pem")
    yield Case("chain: TRUSTED CERTIFICATE", two(w.write("trusted.pem", trusted, inter), key))
    order = "the chain is not in order, and is sent in the right one; put first certificate "
    yield Case("chain: intermediate first", two(w.write("reversed.pem", inter, base), key), order + r"2 \(line \d+, CN=base\)")
    w.sign("lower", "inter", CA)
    w.sign("deep", "lower")
    mixed = w.write("mixed.pem", "deep.pem", "inter.pem", "lower.pem")
    yield Case("chain: upper before lower", two(mixed, w.path("deep.key")), order + "1", sent=3)
    yield Case("chain: intermediate twice", two(w.write("twice.pem", base, inter, inter), key),
               r"certificate 3 \(.*\) is there twice")
    yield Case("chain: certificate twice", two(w.write("twice2.pem", base, base, inter), key),
               r"certificate 2 \(.*\) is there twice")
    yield Case("chain: 80 KB of one intermediate", two(w.write("big.pem", base, *[inter] * 120), key),
               "and 118 more are there twice")
    yield Case("chain: with the root", two(w.write("root.chain", base, inter, "root.pem"), key), sent=3)
    yield Case("chain: intermediate missing", two(w.path("base.pem"), key), alone, sent=1, verifies=False)
    w.sign("other", "root", CA)
    yield Case("chain: a stranger in it", two(w.write("stranger.pem", base, inter, "other.pem"), key),
               r"certificate 3 \(line \d+, CN=other\) has not signed any of the chain")
    w.sh(f"openssl req -x509 {EC}P-256 -nodes -days 9 -subj /CN=root2 -keyout root2.key -out root2.pem")
    w.sign("inter2", "root2", CA, key="inter.key", subject="inter")
    namesake = w.sh(f"openssl req -x509 {EC}P-256 -nodes -subj /CN=inter -days 9 -keyout /dev/null 2>/dev/null")
    yield Case("chain: the stranger has the intermediate's name", two(w.write("name.pem", base, namesake, inter), key),
               "CN=inter.* has not signed")
    yield Case("chain: cross-signed", two(w.write("cross.pem", base, inter, "inter2.pem"), key), sent=3)
    yield Case("chain: cut (being written)", two(w.write("cut.pem", (base + inter)[:-400]), key),
               r"certificate 2 of the chain cannot be read \(line \d+\).* does not end", error=True)
    yield Case("chain: garbage in base64", two(w.write("bad.pem", base.replace("M", "?", 3), inter), key),
               "certificate 1 of the chain cannot be read", error=True)
    yield Case("chain: no certificate", two(w.path("word"), key), "no certificate found", error=True)
    yield Case("chain: empty", two(w.write("empty.pem", ""), key), "is empty", error=True)
    yield Case("chain: a directory", two(w.home, key), "is a directory", error=True)


def client_cases(w):
    """What a client finds."""
    for name, start, end, says in (
            ("expired", "20200101000000Z", "20210101000000Z", "it expired on 2021-01-01 00:00:00Z; clients refuse it"),
            ("early", "20400101000000Z", "20410101000000Z", "it is not valid before 2040-01-01")):
        w.sign(name, "inter", start=start, end=end)
        yield Case(name, pair(w, name), says, verifies=False)
    w.sign("soon", "inter", start="20200101000000Z", end=run("date -u -d '+3 days' +%Y%m%d%H%M%SZ").strip())
    yield Case("expires soon", pair(w, "soon"), r"it expires in [23] days")
    w.sign("oldinter", "root", CA, start="20200101000000Z", end="20210101000000Z")
    w.sign("below", "oldinter")
    yield Case("its intermediate has expired", pair(w, "below"), "its issuer CN=oldinter expired on 2021",
               verifies=False)
    localhost = "subjectAltName=DNS:localhost"
    for name, extensions, says in (
            ("noname", "basicConstraints=CA:FALSE\n", r"it has no name \(subjectAltName\)"),
            ("odd", f"{localhost},DNS:*.com,DNS:10.0.0.1,DNS:https://a.test\n",
             r'no client can ask for "\*\.com", "10\.0\.0\.1", "https://a\.test"'),
            ("clientonly", f"{localhost}\nextendedKeyUsage=clientAuth\n", "it is not for servers"),
            ("encipher", f"{localhost}\nkeyUsage=keyEncipherment\n", "it is not for signatures")):
        w.sign(name, "inter", extensions)
        yield Case(name, pair(w, name), says, verifies=name != "clientonly", tls12=name != "encipher")
    w.sign("sha1", "inter", digest="sha1")
    yield Case("signed with SHA-1", pair(w, "sha1"),
               r"certificate 1 \(.*CN=sha1\) has a signature that is too weak \(ecdsa-with-SHA1\)", error=True)
    w.sign("sha1inter", "root", CA, digest="sha1", key="inter.key", subject="inter")
    yield Case("its intermediate is signed with SHA-1",
               two(w.write("sha1i.pem", "base.pem", "sha1inter.pem"), w.path("base.key")),
               r"certificate 2 \(.*CN=inter\) has a signature that is too weak", error=True)
    w.sign("weak", "root", CA, new="-newkey rsa:1024")
    w.sign("onweak", "weak")
    yield Case("its intermediate is RSA 1024", pair(w, "onweak"),
               r"certificate 2 \(.*CN=weak\) has a key that is too weak \(RSA 1024\)", error=True)
    w.sh("openssl x509 -in root.pem -signkey root.key -sha1 -days 9 -out sha1root.pem")
    with_root = w.write("sha1r.pem", "base.pem", "inter.pem", "sha1root.pem")
    yield Case("the root in it is signed with SHA-1", two(with_root, w.path("base.key")), sent=3)


class KeysAndChains(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.workshop = Workshop()
        cls.addClassCleanup(shutil.rmtree, cls.workshop.home, ignore_errors=True)
        cls.cases = [case for kind in (key_cases, file_cases, chain_cases, client_cases) for case in kind(cls.workshop)]

    def config(self, certificates, services="[service.s]\nlisten = [\"127.0.0.1:{port}\"]\ncertificates = [\"c\"]\n"):
        return ('[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n' + certificates +
                services.replace("{port}", str(testlib.free_port())) + WORKER)

    def check(self, config):
        file = self.workshop.write("check.toml", config.replace("{runtime_dir}", self.workshop.path("run")))
        done = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--config", file, "--check"], capture_output=True,
                              text=True, check=False, timeout=60 * testlib.PATIENCE)
        return done.returncode, done.stdout + done.stderr

    def client(self, port, *options, name="localhost"):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-showcerts",
                               "-CAfile", self.workshop.path("root.pem"), *options], input="", capture_output=True, text=True,
                              check=False, timeout=30 * testlib.PATIENCE)
        return done.stdout + done.stderr

    def look(self, case):
        """The row of the table for --check."""
        # An odd name shows that each line of the certificate is found in the right place.
        status, text = self.check(self.config(f"[certificate.c]\n{case.lines}"))
        said = [line for line in text.replace(self.workshop.home + "/", "").splitlines() if not line.endswith(": ok")]
        with self.subTest(case.name):
            self.assertEqual(status, 78 if case.error else 0, text)
            for words in case.says:
                self.assertRegex(text, words)
            complaints = [line for line in said if re.match(r"check\.toml:\d+:\d+: ", line)]
            self.assertEqual(bool(complaints), bool(case.says), text)
            self.assertTrue(case.error or any("valid until" in line for line in said), text)
        return status, said

    def shake(self, case):
        """The row of the table for handshakes with both versions."""
        row = []
        for version in ("-tls1_3", "-tls1_2"):
            text = self.client(case.port, version)
            sent = len(re.findall(r"^ *\d+ s:", text, re.M))
            verified = re.findall(r"Verify return code: (\d+ .*)", text)[-1:] or ["none"]
            row.append(f"{sent} {verified[0]}")
            with self.subTest(case.name, version=version):
                if version == "-tls1_2" and not case.tls12:
                    self.assertEqual(sent, 0, text)
                    continue
                self.assertEqual(sent, case.sent, text)
                self.assertEqual(verified[0].startswith("0 "), case.verifies, text)
                self.assertTrue("Cipher is " in text and "Cipher is (NONE)" not in text, text)
        return row

    def test_all_kinds(self):
        self.assertGreaterEqual(len(self.cases), 60)
        table = [(case, *self.look(case)) for case in self.cases]
        taken = [case for case in self.cases if not case.error]
        config = '[broker]\nruntime_dir = "{runtime_dir}"\nuser = "nobody"\n'
        for number, case in enumerate(taken):
            case.port = testlib.free_port()
            config += (f'[certificate.c{number}]\n{case.lines}[service.s{number}]\nlisten = ["127.0.0.1:{case.port}"]\n'
                       f'certificates = ["c{number}"]\n{WORKER}')
        with testlib.Broker(config):
            rows = {case: self.shake(case) for case in taken}
        print(f"\n{'files':55} status  TLS 1.3, TLS 1.2: certificates sent, verification")
        for case, status, said in table:
            print(f"{case.name:55} {status:6}  {' | '.join(rows.get(case, []))}")
            for line in said:
                print("    " + line)

    def certificate(self, name, chain, key=None):
        return f"[certificate.{name}]\n" + two(self.workshop.path(chain), self.workshop.path(key or chain.split(".")[0] + ".key"))

    def test_once_per_certificate(self):
        services = "".join(f'[service.{s}]\nlisten = ["127.0.0.1:{testlib.free_port()}"]\ncertificates = ["c"]\n{more}'
                           for s, more in (("a", WORKER), ("b", "")))
        config = self.config(self.certificate("c", "expired.chain"), services)
        _, text = self.check(config)
        self.assertEqual(text.count("it expired on"), 1, text)
        with testlib.Broker(config) as broker:
            self.assertEqual(broker.log_text().count("it expired on"), 1, broker.log_text())
            self.assertEqual(broker.log_text().count("started role=inspector"), 1)

    def test_names_that_nobody_asks_for(self):
        w = self.workshop
        w.sign("first", "inter", "subjectAltName=DNS:a.test,DNS:b.test\n")
        w.sign("again", "inter", "subjectAltName=DNS:B.test,DNS:a.test.\n")
        w.sign("address", "inter", "subjectAltName=IP:127.0.0.1\n")
        w.sign("rest", "inter", "subjectAltName=DNS:c.test\n", new="-newkey rsa:2048")
        names = ("first", "again", "address", "rest")
        config = self.config("".join(self.certificate(n, n + ".chain") for n in names),
                             '[service.s]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["first", "again", "address", "rest"]\n')
        status, text = self.check(config)
        self.assertEqual(status, 0, text)
        self.assertRegex(text, 'certificate "again": .*it is shown to nobody as long as "first" is valid')
        self.assertRegex(text, 'certificate "address": .*no client can ask for it: it has no host name')
        self.assertEqual(text.count("(warning)"), 2, text)

    def test_a_client_certificate(self):
        """Of one that is only shown to servers other things are wrong."""
        w = self.workshop
        w.sign("serveronly", "inter", "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")
        config = self.config(self.certificate("c", "base.chain") + self.certificate("x", "clientonly.chain") +
                             self.certificate("y", "serveronly.chain"),
                             '[service.s]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\nwrap = ["client"]\n'
                             'client_certificates = ["x", "y"]\n')
        _, text = self.check(config)
        self.assertRegex(text, 'certificate "y": .*it is not for clients')
        self.assertEqual(text.count("(warning)"), 1, text)

    def test_a_valid_one_goes_before_an_expired_one(self):
        w = self.workshop
        w.sign("wildcard", "inter", "subjectAltName=DNS:*.test.org\n")
        w.sign("oldname", "inter", "subjectAltName=DNS:a.test.org\n", start="20200101000000Z", end="20210101000000Z")
        port = testlib.free_port()
        config = self.config(self.certificate("c", "base.chain") + self.certificate("o", "oldname.chain") +
                             self.certificate("w", "wildcard.chain"),
                             f'[service.s]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c", "o", "w"]\n')
        with testlib.Broker(config):
            for name in ("a.test.org", "a.test.org.", "A.Test.Org"):
                self.assertRegex(self.client(port, name=name), "0 s:CN = wildcard", name)

    def test_reload(self):
        """Files that have not changed are not looked at again; what is wrong with others changes nothing."""
        w = self.workshop
        w.write("live.pem", "base.key", "base.chain")
        port, other = testlib.free_port(), testlib.free_port()
        config = self.config(f'[certificate.c]\npem = "{w.path("live.pem")}"\n' + self.certificate("d", "expired.chain"),
                             f'[service.s]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\n{WORKER}'
                             f'[service.t]\nlisten = ["127.0.0.1:{other}"]\ncertificates = ["d"]\nstart = "on-demand"\n')
        with testlib.Broker(config) as broker:
            start = len(broker.log)
            broker.signal(signal.SIGHUP)
            broker.wait_for_log("in force .*started=- ", start=start)
            self.assertNotRegex("\n".join(broker.log[start:]), "role=inspector")
            broker.wait_for_log('certificate "d": .*it expired on', start=start)
            start = len(broker.log)
            w.write("live.pem", "rsa.chain", "base.key")
            broker.signal(signal.SIGHUP)
            broker.wait_for_log(r'broker\.toml:5:7: certificate "c": .*live\.pem: the private key \(EC P-256\) does not match',
                                start=start)
            broker.wait_for_log("reload failed", start=start)
            self.assertRegex(self.client(port), "0 s:CN = base")
            start = len(broker.log)
            w.write("live.pem", "rsa.chain", "rsa.key")
            broker.signal(signal.SIGHUP)
            broker.wait_for_log("in force .*started=s ", start=start)
            self.assertRegex(self.client(port), "0 s:CN = rsa")

    def test_a_service_that_is_started_on_demand(self):
        """Its certificates are looked at when the broker starts."""
        config = self.config(self.certificate("c", "base.chain", "rsa.key"),
                             '[service.s]\nlisten = ["127.0.0.1:{port}"]\ncertificates = ["c"]\nstart = "on-demand"\n')
        with testlib.Broker(config, expect_ready=False) as broker:
            self.assertEqual(broker.process.wait(20 * testlib.PATIENCE), 78)
            broker.wait_for_log('certificate "c": .*does not match')

    def test_a_credential_as_passphrase(self):
        w = self.workshop
        config = self.config("[certificate.c]\n" + one(w.path("both.p12"), "cred:word"))
        port = re.search(r"127\.0\.0\.1:(\d+)", config)[1]
        broker = testlib.Broker(config)
        broker.environment = {"CREDENTIALS_DIRECTORY": w.home}
        with broker:
            self.assertRegex(self.client(port), "0 s:CN = base")

    @unittest.skipUnless(os.geteuid() == 0, "an ordinary user's broker has no other user to become")
    def test_who_parses_a_file_is_confined(self):
        """A PKCS#12 file whose check takes seconds: meanwhile its keyholder is nobody and behind its filter."""
        w = self.workshop
        w.sh("openssl pkcs12 -export -passout file:word -iter 65537 -inkey base.key -in base.pem -out slow.p12")
        with open(w.path("slow.p12"), "r+b") as file:
            text = file.read()
            self.assertIn(b"\2\3\1\0\1", text)
            file.seek(0)
            file.write(text.replace(b"\2\3\1\0\1", b"\2\3\x7f\xff\xff"))  # 8,388,607 turns
        slow, word = w.path("slow.p12"), w.path("word")
        for name, lines in (("all in one", one(slow, word)),
                            ("the chain of a key that has a URI", two(slow, "file:" + w.path("base.key"), word))):
            with self.subTest(name):
                facts = self.facts_of_inspector(lines)
                self.assertEqual((facts["Name"], facts["Seccomp"], facts["CapPrm"], facts["NoNewPrivs"]),
                                 ("tlsbroker-keyho", "2", "0" * 16, "1"))
                self.assertEqual(set(facts["Uid"].split()), {"65534"})

    def facts_of_inspector(self, lines):
        """/proc/PID/status of the keyholder that looks at this certificate, once it computes; then it is killed."""
        file = self.workshop.write("slow.toml", self.config("[certificate.c]\n" + lines).replace(
            "{runtime_dir}", self.workshop.path("run")))
        with subprocess.Popen([testlib.program("broker/supervisor/tlsbrokerd"), "--config", file, "--check"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as supervisor:
            try:
                pid = testlib.wait_until(lambda: next(filter(self.computes, self.children(supervisor.pid)), None),
                                         "keyholder that computes")
                with open(f"/proc/{pid}/status", encoding="ascii") as status:
                    facts = {name: value.strip() for name, _, value in (line.partition(":") for line in status)}
                os.kill(pid, signal.SIGKILL)
            finally:
                supervisor.terminate()
        return facts

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def computes(self, pid):
        """Whether it has used the processor for 200 ms."""
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[11]) >= os.sysconf("SC_CLK_TCK") / 5


if __name__ == "__main__":
    unittest.main()
