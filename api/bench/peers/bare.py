"""A bare ASGI handler on uvicorn, set up as our own server is, that verifies a delivery and forgets it: the ceiling.

Run as PEER_PORT=8001 PEER_SECRET=secret python -m api.bench.peers.bare
"""

import hmac
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn

from api.garbage import settle_garbage

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BACKLOG_CONNECTIONS = 2048
SIGNATURE = b"x-cal-signature-256"
ANSWER = b'{"status":"verified"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]

_SECRET = os.environ.get("PEER_SECRET", "").encode()


async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """200 for what Cal.com signed and for whoever only asks whether we are there, else 401."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    verified = scope["method"] == "GET" or is_signed(body, dict(scope["headers"]).get(SIGNATURE, b""))
    await send({"type": "http.response.start", "status": 200 if verified else 401, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def is_signed(body: bytes, signature: bytes) -> bool:
    return hmac.compare_digest(hmac.digest(_SECRET, body, "sha256").hex().encode(), signature)


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    settle_garbage()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def run(served: Any) -> None:  # noqa: ANN401  # any ASGI application
    """Serve on `PEER_PORT` until told to stop, with the options of our own server (api/cli/serve.py)."""
    uvicorn.run(
        served,
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        backlog=BACKLOG_CONNECTIONS,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    run(app)
