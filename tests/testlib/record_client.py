# SPDX-License-Identifier: Apache-2.0
"""A TLS client that seals and opens its records itself after the handshake, so that it can send what no library would send, and see
which alert comes back. TLS 1.2 and 1.3 with AES-GCM."""

import ctypes
import fcntl
import hashlib
import hmac
import re
import socket
import ssl
import struct
import tempfile
import termios

import broker as testlib

ALERT, HANDSHAKE, DATA = 21, 22, 23
WARNING, FATAL = 1, 2
NEW_SESSION_TICKET, KEY_UPDATE = b"\4", b"\x18"
CLOSE_NOTIFY = 0
CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
TAG = 16
EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG = 0x10, 0x11
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

library = ctypes.CDLL("libcrypto.so.3")
for name in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm", "EVP_aes_256_gcm"):
    getattr(library, name).restype = ctypes.c_void_p


def prf(secret, label, seed, size):
    """The pseudorandom function of RFC 5246 section 5."""
    seed = state = label + seed
    output = b""
    while len(output) < size:
        state = hmac.digest(secret, state, hashlib.sha256)
        output += hmac.digest(secret, state + seed, hashlib.sha256)
    return output[:size]


def expand(secret, label, size, digest):
    """HKDF-Expand-Label with an empty context, RFC 8446 section 7.1; one block is enough here."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return hmac.digest(secret, info + b"\1", digest)[:size]


def crypt(key, nonce, associated, data, opens=False):
    """AES-GCM. `data` ends with the tag if it `opens`; None if that is wrong."""
    tag = data[-TAG:] if opens else bytes(TAG)
    data = data[:-TAG] if opens else data
    context, size = ctypes.c_void_p(library.EVP_CIPHER_CTX_new()), ctypes.byref(ctypes.c_int())
    cipher = ctypes.c_void_p(library.EVP_aes_128_gcm() if len(key) == 16 else library.EVP_aes_256_gcm())
    output, tag = ctypes.create_string_buffer(len(data)), ctypes.create_string_buffer(tag, TAG)
    library.EVP_CipherInit_ex(context, cipher, None, key, nonce, 0 if opens else 1)
    if opens:
        library.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, tag)
    library.EVP_CipherUpdate(context, None, size, associated, len(associated))
    library.EVP_CipherUpdate(context, output, size, data, len(data))
    right = library.EVP_CipherFinal_ex(context, None, size) == 1
    if not opens:
        library.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, tag)
    library.EVP_CIPHER_CTX_free(context)
    if opens:
        return output.raw if right else None
    return output.raw + tag.raw


class Tls12Direction:
    """RFC 5288 section 3. Record 0 was Finished."""

    def __init__(self, key, salt):
        self._key, self._salt, self._next = key, salt, 1

    def _associated(self, kind, size):
        number = self._next.to_bytes(8, "big")
        self._next += 1
        return number, number + bytes([kind, 3, 3]) + size.to_bytes(2, "big")

    def seal(self, kind, data, _padding=0):
        number, associated = self._associated(kind, len(data))
        sealed = number + crypt(self._key, self._salt + number, associated, data)
        return bytes([kind, 3, 3]) + len(sealed).to_bytes(2, "big") + sealed

    def open(self, record):
        _, associated = self._associated(record[0], len(record) - 5 - 8 - TAG)
        return record[0], crypt(self._key, self._salt + record[5:13], associated, record[13:], opens=True)


class Tls13Direction:
    """RFC 8446 section 5.2."""

    def __init__(self, secret, key_size, digest):
        self._secret, self._key_size, self._digest = secret, key_size, digest
        self._use()

    def _use(self):
        self._key = expand(self._secret, b"key", self._key_size, self._digest)
        self._iv = expand(self._secret, b"iv", 12, self._digest)
        self._next = 0

    def update(self):
        self._secret = expand(self._secret, b"traffic upd", hashlib.new(self._digest).digest_size, self._digest)
        self._use()

    def _nonce(self):
        number = int.from_bytes(self._iv, "big") ^ self._next
        self._next += 1
        return number.to_bytes(12, "big")

    def seal(self, kind, data, padding=0):
        inner = data + bytes([kind]) + bytes(padding)
        header = bytes([DATA, 3, 3]) + (len(inner) + TAG).to_bytes(2, "big")
        return header + crypt(self._key, self._nonce(), header, inner)

    def open(self, record):
        inner = crypt(self._key, self._nonce(), record[:5], record[5:], opens=True)
        if inner is None:
            return DATA, None
        inner = inner.rstrip(b"\0")
        return inner[-1], inner[:-1]


class RecordClient:
    """Connected to `port`, with the handshake done. `out` seals; `raw` is the socket."""

    def __init__(self, port, context, version):
        context.minimum_version = context.maximum_version = self.version = version
        context.set_ciphers(CIPHERS)
        self.raw = socket.create_connection(("127.0.0.1", port), 20 * testlib.PATIENCE)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with tempfile.NamedTemporaryFile("r", encoding="ascii") as log:
            context.keylog_filename = log.name
            cipher, received = self._handshake(context)
            secrets = {label: (bytes.fromhex(random), bytes.fromhex(secret))
                       for label, random, secret in re.findall(r"^(\w+) (\w+) (\w+)$", log.read(), re.MULTILINE)}
        if version == V1_3:
            sizes = (32, "sha384") if "256" in cipher.split("_")[2] else (16, "sha256")
            self.out = Tls13Direction(secrets["CLIENT_TRAFFIC_SECRET_0"][1], *sizes)
            self._in = Tls13Direction(secrets["SERVER_TRAFFIC_SECRET_0"][1], *sizes)
        else:
            client_random, secret = secrets["CLIENT_RANDOM"]
            server_random = received[11:43]  # RFC 5246 section 7.4.1.3, behind the headers of record and message
            block = prf(secret, b"key expansion", server_random + client_random, 40)
            self.out, self._in = Tls12Direction(block[:16], block[32:36]), Tls12Direction(block[16:32], block[36:40])

    def _handshake(self, context):
        """The cipher's name, and what the server sent."""
        incoming, outgoing, received = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                self.raw.sendall(outgoing.read())
                self._unread = incoming.read()
                return tls.cipher()[0], received
            except ssl.SSLWantReadError:
                self.raw.sendall(outgoing.read())
                data = self.raw.recv(65536)
                received += data
                incoming.write(data) if data else incoming.write_eof()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.raw.close()

    def send(self, kind, data, padding=0):
        self.raw.sendall(self.out.seal(kind, data, padding))

    def data(self, data):
        for start in range(0, len(data), 2**14):
            self.send(DATA, data[start:start + 2**14])

    def close_notify(self):
        self.send(ALERT, bytes([WARNING, CLOSE_NOTIFY]))

    def finish(self):
        """FIN."""
        self.raw.shutdown(socket.SHUT_WR)

    def reset(self):
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()

    def reset_when_acknowledged(self):
        """When the other side's kernel has all that was sent."""
        testlib.wait_until(lambda: fcntl.ioctl(self.raw, termios.TIOCOUTQ, bytes(4)) == bytes(4), "acknowledgement")
        self.reset()

    def _take(self, size):
        while len(self._unread) < size:
            data = self.raw.recv(65536)
            if not data:
                raise EOFError
            self._unread += data
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def receive(self):
        """The type and content of the next record that is no ticket. EOFError: FIN. ConnectionError: a reset."""
        header = self._take(5)
        kind, content = self._in.open(header + self._take(int.from_bytes(header[3:], "big")))
        if kind == HANDSHAKE and self.version == V1_3 and content[:1] == NEW_SESSION_TICKET:
            return self.receive()
        if kind == HANDSHAKE and self.version == V1_3 and content[:1] == KEY_UPDATE:
            self._in.update()
        return kind, content

    def end(self):
        """Receives all that comes. (data, the number of the alert or None, "fin", "reset" or "nothing more")."""
        received, alert = b"", None
        try:
            while True:
                kind, content = self.receive()
                if kind == DATA:
                    received += content
                if kind == ALERT and alert in (None, CLOSE_NOTIFY):
                    alert = content[1]
        except EOFError:
            return received, alert, "fin"
        except ConnectionError:
            return received, alert, "reset"
        except TimeoutError:
            return received, alert, "nothing more"
