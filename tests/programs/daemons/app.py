# SPDX-License-Identifier: Apache-2.0
"""A WSGI application, for gunicorn and uWSGI."""

import hashlib


def application(environ, start_response):
    path, answer = environ["PATH_INFO"], b"not found\n"
    if path == "/page":
        answer = b"hello\n" * 2000
    elif path == "/digest":
        answer = hashlib.sha256(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))).hexdigest().encode()
    status = "404 Not Found" if answer == b"not found\n" else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
