"""Records of TLS 1.2 with AES-128-GCM, sealed here: a client that sends what no library would."""

import ctypes
import hashlib
import hmac
import re
import socket
import ssl
import tempfile

HANDSHAKE = 22
CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
TAG = 16
EVP_CTRL_AEAD_GET_TAG = 0x10

library = ctypes.CDLL("libcrypto.so.3")
for name in ("EVP_CIPHER_CTX_new", "EVP_aes_128_gcm"):
    getattr(library, name).restype = ctypes.c_void_p


def prf(secret, label, seed, size):
    """RFC 5246 section 5."""
    seed = state = label + seed
    output = b""
    while len(output) < size:
        state = hmac.digest(secret, state, hashlib.sha256)
        output += hmac.digest(secret, state + seed, hashlib.sha256)
    return output[:size]


def seal(key, nonce, associated, data):
    context, size = ctypes.c_void_p(library.EVP_CIPHER_CTX_new()), ctypes.byref(ctypes.c_int())
    output, tag = ctypes.create_string_buffer(len(data)), ctypes.create_string_buffer(TAG)
    library.EVP_EncryptInit_ex(context, ctypes.c_void_p(library.EVP_aes_128_gcm()), None, key, nonce)
    library.EVP_EncryptUpdate(context, None, size, associated, len(associated))
    library.EVP_EncryptUpdate(context, output, size, data, len(data))
    library.EVP_EncryptFinal_ex(context, None, size)
    library.EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, tag)
    library.EVP_CIPHER_CTX_free(context)
    return output.raw + tag.raw


class Sealer:
    """Of the client's records after the handshake that is done on `raw`."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        with tempfile.NamedTemporaryFile("r", encoding="ascii") as log:
            context.keylog_filename = log.name
            hello = self._handshake(raw, context)
            client_random, secret = re.search(r"^CLIENT_RANDOM (\w+) (\w+)$", log.read(), re.MULTILINE).groups()
        server_random = hello[11:43]  # RFC 5246 section 7.4.1.3, behind the headers of record and message
        block = prf(bytes.fromhex(secret), b"key expansion", server_random + bytes.fromhex(client_random), 40)
        self._key, self._salt = block[:16], block[32:36]
        self._next = 1  # 0 was Finished

    @staticmethod
    def _handshake(raw, context):
        """What the server sent."""
        incoming, outgoing, received = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                return received
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                data = raw.recv(65536)
                received += data
                incoming.write(data) if data else incoming.write_eof()

    def record(self, kind, data):
        """RFC 5288 section 3."""
        number = self._next.to_bytes(8, "big")
        self._next += 1
        sealed = number + seal(self._key, self._salt + number,
                               number + bytes([kind, 3, 3]) + len(data).to_bytes(2, "big"), data)
        return bytes([kind, 3, 3]) + len(sealed).to_bytes(2, "big") + sealed
