#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Uploads by Python's ssl: see tests/README.md. unwrap() sends close_notify; a blocking one would wait for the server's, too. It
also reads what is there, but does not wait for it."""

import select
import socket
import ssl
import sys


def end(tls):
    tls.setblocking(False)
    while True:
        try:
            tls.unwrap()
            return
        except ssl.SSLWantWriteError:
            select.select([], [tls], [])
        except ssl.SSLWantReadError:  # sent; the answer would be next
            return


host, port, size, version, trusted, count = sys.argv[1:]
context = ssl.create_default_context(cafile=trusted)
context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
data = bytes(i % 251 for i in range(int(size)))
for _ in range(int(count)):
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as connection:
        connection.sendall(data)
        end(connection)
