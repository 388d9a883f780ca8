#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs kTLS (TLS 1.3, AES-128-GCM) for sending on a loopback connection, and checks that a record, and not the plaintext,
comes at the other end.

Prints what happened; exits 0 if the kernel encrypts, 2 if it has no TLS ULP (ENOENT), and with a trace for anything else.
"""

import errno
import socket
import struct
import sys

TCP_ULP, SOL_TLS, TLS_TX = 31, 282, 1
TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128 = 0x0304, 51
PLAINTEXT = b"in clear?" * 10

listener = socket.create_server(("127.0.0.1", 0))
sender = socket.create_connection(listener.getsockname())
receiver, _ = listener.accept()
try:
    sender.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
except FileNotFoundError:
    print("TCP_ULP:", errno.errorcode[errno.ENOENT])
    sys.exit(2)
# struct tls12_crypto_info_aes_gcm_128: version, cipher, iv[8], key[16], salt[4], rec_seq[8]
sender.setsockopt(SOL_TLS, TLS_TX, struct.pack("=HH8s16s4s8s", TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8)))
sender.sendall(PLAINTEXT)
wire = receiver.recv(4096)
# type application_data, legacy version, length of the plaintext, its type and the tag
assert wire[:5] == struct.pack("!BHH", 23, 0x0303, len(PLAINTEXT) + 1 + 16), wire[:5]
assert len(wire) == 5 + len(PLAINTEXT) + 17 and b"clear" not in wire
print("TLS_TX: a record of", len(wire), "bytes")
