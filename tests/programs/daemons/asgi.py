# SPDX-License-Identifier: Apache-2.0
"""An ASGI application, for uvicorn."""

import hashlib


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    answer = {"/page": b"hello\n" * 2000, "/digest": digest.hexdigest().encode()}.get(scope["path"])
    await send({"type": "http.response.start", "status": 200 if answer else 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer or b"not found\n"})
